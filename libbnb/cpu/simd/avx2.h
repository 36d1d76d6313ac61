// SPDX-License-Identifier: MIT
// The words of words.h in AVX2, FMA and F16C: eight lanes.
#ifndef BNB_CPU_SIMD_AVX2_H_
#define BNB_CPU_SIMD_AVX2_H_

#include <immintrin.h>

#include "cpu/simd/words.h"

namespace bnb::cpu::BNB_ISA {
namespace {

using Floats = __m256;
using Ints = __m256i;
struct Mask {
  __m256i lanes;  // all ones or all zeros
};
constexpr int kLanes = 8;

BNB_INLINE Floats splat(float x) { return _mm256_set1_ps(x); }
BNB_INLINE Ints splat_int(int32_t i) { return _mm256_set1_epi32(i); }
BNB_INLINE Ints splat_bits(uint32_t u) { return _mm256_set1_epi32(int32_t(u)); }
BNB_INLINE Ints iota_int() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
BNB_INLINE Ints bits(Floats x) { return _mm256_castps_si256(x); }
BNB_INLINE Floats from_bits(Ints v) { return _mm256_castsi256_ps(v); }

BNB_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
BNB_INLINE Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
BNB_INLINE Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
BNB_INLINE Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
BNB_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
BNB_INLINE Floats sqrt(Floats x) { return _mm256_sqrt_ps(x); }
BNB_INLINE Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
BNB_INLINE Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
BNB_INLINE Ints round_int(Floats x) { return _mm256_cvtps_epi32(x); }
BNB_INLINE Floats to_float(Ints v) { return _mm256_cvtepi32_ps(v); }

BNB_INLINE Ints add_int(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
BNB_INLINE Ints sub_int(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
BNB_INLINE Ints and_int(Ints a, Ints b) { return _mm256_and_si256(a, b); }
BNB_INLINE Ints or_int(Ints a, Ints b) { return _mm256_or_si256(a, b); }
BNB_INLINE Ints xor_int(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
BNB_INLINE Ints and_not(Ints a, Ints b) { return _mm256_andnot_si256(b, a); }
BNB_INLINE Ints select_bits(Ints mask, Ints a, Ints b) { return or_int(and_int(a, mask), and_not(b, mask)); }
BNB_INLINE Ints max_uint(Ints a, Ints b) { return _mm256_max_epu32(a, b); }
BNB_INLINE Ints min_uint(Ints a, Ints b) { return _mm256_min_epu32(a, b); }
BNB_INLINE Ints add_int_where(Mask m, Ints a, Ints b) { return add_int(a, and_int(m.lanes, b)); }
BNB_INLINE Ints sub_or_zero(Ints a, Ints b) { return _mm256_subs_epu16(a, b); }
template <int N>
BNB_INLINE Ints shift_left(Ints v) {
  return _mm256_slli_epi32(v, N);
}
template <int N>
BNB_INLINE Ints shift_right(Ints v) {
  return _mm256_srli_epi32(v, N);
}
template <int N>
BNB_INLINE Ints shift_right_where(Mask m, Ints v) {
  return _mm256_srlv_epi32(v, and_int(m.lanes, splat_int(N)));
}
BNB_INLINE uint32_t reduce_max_uint(Ints v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return uint32_t(_mm_cvtsi128_si32(m));
}

BNB_INLINE void reduce_max_uint(Ints a, Ints b, Ints c, Ints d, uint32_t *out) {
  const Ints ab = max_uint(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  const Ints cd = max_uint(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
  const Ints abcd = max_uint(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  const __m128i half = _mm_max_epu32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(out), half);
}

BNB_INLINE Floats abs(Floats x) { return from_bits(and_int(bits(x), splat_bits(0x7FFFFFFFu))); }
BNB_INLINE Floats copy_sign(Floats magnitude, Floats sign) {
  const Floats magnitude_bits = from_bits(splat_bits(0x7FFFFFFFu));
  return _mm256_or_ps(_mm256_and_ps(magnitude_bits, magnitude), _mm256_andnot_ps(magnitude_bits, sign));
}

BNB_INLINE Mask greater(Floats a, Floats b) { return {bits(_mm256_cmp_ps(a, b, _CMP_GT_OQ))}; }
BNB_INLINE Mask greater_equal(Floats a, Floats b) { return {bits(_mm256_cmp_ps(a, b, _CMP_GE_OQ))}; }
BNB_INLINE Mask equal(Floats a, Floats b) { return {bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ))}; }
BNB_INLINE Mask is_nan(Floats x) { return {bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q))}; }
BNB_INLINE Mask greater_int(Ints a, Ints b) { return {_mm256_cmpgt_epi32(a, b)}; }
BNB_INLINE Mask greater_uint(Ints a, Ints b) { return {xor_int(_mm256_cmpeq_epi32(max_uint(a, b), b), splat_int(-1))}; }
BNB_INLINE Mask equal_int(Ints a, Ints b) { return {_mm256_cmpeq_epi32(a, b)}; }
BNB_INLINE Mask both(Mask m, Mask n) { return {_mm256_and_si256(m.lanes, n.lanes)}; }
BNB_INLINE Mask either(Mask m, Mask n) { return {_mm256_or_si256(m.lanes, n.lanes)}; }
BNB_INLINE Mask but_not(Mask m, Mask n) { return {_mm256_andnot_si256(n.lanes, m.lanes)}; }
BNB_INLINE uint32_t mask_bits(Mask m) { return uint32_t(_mm256_movemask_ps(from_bits(m.lanes))); }
BNB_INLINE bool any(Mask m) { return mask_bits(m) != 0; }
BNB_INLINE Floats select(Mask m, Floats a, Floats b) { return _mm256_blendv_ps(b, a, from_bits(m.lanes)); }
BNB_INLINE Ints select_int(Mask m, Ints a, Ints b) { return _mm256_blendv_epi8(b, a, m.lanes); }
BNB_INLINE Mask first_lanes(int64_t count) { return greater_int(splat_int(int32_t(count)), iota_int()); }

BNB_INLINE __m128i narrow_bf16(Floats x) {
  const Ints u = bits(x);
  const Ints odd = and_int(shift_right<16>(u), splat_int(1));
  const Ints rounded = add_int(u, add_int(odd, splat_int(0x7FFF)));
  const Ints quiet = or_int(u, splat_int(0x400000));
  const Ints upper = shift_right<16>(select_int(is_nan(x), quiet, rounded));
  return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}
BNB_INLINE __m128i narrow_fp16(Floats x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BNB_INLINE Floats widen_bf16(__m128i h) { return from_bits(shift_left<16>(_mm256_cvtepu16_epi32(h))); }
BNB_INLINE Floats widen_fp16(__m128i h) { return _mm256_cvtph_ps(h); }

BNB_INLINE __m128i load_16_bytes(const void *p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }
BNB_INLINE __m128i load_8_bytes(const void *p) { return _mm_loadl_epi64(static_cast<const __m128i *>(p)); }

template <typename Tag>
BNB_INLINE Floats load(const void *p) {
  if constexpr (Tag::kDType == DType::kF32) return _mm256_loadu_ps(static_cast<const float *>(p));
  if constexpr (Tag::kDType == DType::kF16) return widen_fp16(load_16_bytes(p));
  if constexpr (Tag::kDType == DType::kBF16) return widen_bf16(load_16_bytes(p));
}
template <typename Tag>
BNB_INLINE Floats load_some(const void *p, int64_t count) {
  if constexpr (Tag::kDType == DType::kF32) {
    return _mm256_maskload_ps(static_cast<const float *>(p), first_lanes(count).lanes);
  } else {
    return load<Tag>(Padded<16>(p, count * 2).bytes);
  }
}
template <typename Tag>
BNB_INLINE void store(void *p, Floats x) {
  if constexpr (Tag::kDType == DType::kF32) _mm256_storeu_ps(static_cast<float *>(p), x);
  if constexpr (Tag::kDType == DType::kF16) _mm_storeu_si128(static_cast<__m128i *>(p), narrow_fp16(x));
  if constexpr (Tag::kDType == DType::kBF16) _mm_storeu_si128(static_cast<__m128i *>(p), narrow_bf16(x));
}
template <typename Tag>
BNB_INLINE void store_some(void *p, Floats x, int64_t count) {
  if constexpr (Tag::kDType == DType::kF32) {
    _mm256_maskstore_ps(static_cast<float *>(p), first_lanes(count).lanes, x);
  } else {
    Padded<16> padded;
    store<Tag>(padded.bytes, x);
    padded.copy_to(p, count * 2);
  }
}
constexpr bool kStreams = true;
BNB_INLINE void stream_line(void *p, const void *from) {
  const __m256i *half = static_cast<const __m256i *>(from);
  const __m256i low = _mm256_loadu_si256(half), high = _mm256_loadu_si256(half + 1);
  _mm256_stream_si256(static_cast<__m256i *>(p), low);
  _mm256_stream_si256(static_cast<__m256i *>(p) + 1, high);
}
BNB_INLINE void stream_fence() { _mm_sfence(); }

BNB_INLINE Ints load_int32(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
BNB_INLINE Ints load_int32_some(const void *p, int64_t count) {
  return _mm256_maskload_epi32(static_cast<const int *>(p), first_lanes(count).lanes);
}
BNB_INLINE Ints load_int8(const void *p) { return _mm256_cvtepi8_epi32(load_8_bytes(p)); }
BNB_INLINE Ints load_int8_some(const void *p, int64_t count) { return load_int8(Padded<8>(p, count).bytes); }
BNB_INLINE Ints load_uint8(const void *p) { return _mm256_cvtepu8_epi32(load_8_bytes(p)); }
BNB_INLINE Ints load_uint8_some(const void *p, int64_t count) { return load_uint8(Padded<8>(p, count).bytes); }
BNB_INLINE void store_int32(void *p, Ints v) { _mm256_storeu_si256(static_cast<__m256i *>(p), v); }
BNB_INLINE __m128i narrow_int16(Ints v) { return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }
BNB_INLINE void store_int8(void *p, Ints v) {
  const __m128i words = narrow_int16(v);
  _mm_storel_epi64(static_cast<__m128i *>(p), _mm_packs_epi16(words, words));
}
BNB_INLINE void store_int8_some(void *p, Ints v, int64_t count) {
  Padded<8> padded;
  store_int8(padded.bytes, v);
  padded.copy_to(p, count);
}
BNB_INLINE void store_uint8(void *p, Ints v) {
  const __m128i words = narrow_int16(v);
  _mm_storel_epi64(static_cast<__m128i *>(p), _mm_packus_epi16(words, words));
}
BNB_INLINE void store_uint8_some(void *p, Ints v, int64_t count) {
  Padded<8> padded;
  store_uint8(padded.bytes, v);
  padded.copy_to(p, count);
}
// A gather keeps what its destination held in lanes that are off. gcc, knowing that none is, lets the destination be any register,
// and each gather waits for the one before (dequantize_blockwise took three times as long): so it may not know.
BNB_INLINE __m256i every_lane() {
  __m256i ones = _mm256_set1_epi32(-1);
#if defined(__GNUC__)
  __asm__("" : "+x"(ones));
#endif
  return ones;
}
BNB_INLINE Floats gather(const float *table, Ints index) {
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), table, index, from_bits(every_lane()), 4);
}
BNB_INLINE Ints gather_bits(const uint32_t *table, Ints index) {
  return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), reinterpret_cast<const int *>(table), index, every_lane(), 4);
}

using Shorts = __m128i;
BNB_INLINE Shorts load_int8_shorts(const void *p) { return _mm_cvtepi8_epi16(load_8_bytes(p)); }
BNB_INLINE Shorts load_int8_shorts_some(const void *p, int64_t count) { return load_int8_shorts(Padded<8>(p, count).bytes); }
BNB_INLINE Shorts splat_shorts(uint16_t u) { return _mm_set1_epi16(int16_t(u)); }
BNB_INLINE Shorts and_shorts(Shorts a, Shorts b) { return _mm_and_si128(a, b); }
BNB_INLINE Shorts or_shorts(Shorts a, Shorts b) { return _mm_or_si128(a, b); }
BNB_INLINE Shorts equal_shorts(Shorts a, Shorts b) { return _mm_cmpeq_epi16(a, b); }
template <int N>
BNB_INLINE Shorts shift_left_shorts(Shorts v) {
  return _mm_slli_epi16(v, N);
}
BNB_INLINE Shorts shift_left_shorts_by(Shorts v, int count) { return _mm_sll_epi16(v, _mm_cvtsi32_si128(count)); }

BNB_INLINE Shorts load_nibble_shorts(const void *p) {
  const __m128i byte = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bnb::load<int32_t>(p, 0)));
  return _mm_or_si128(byte, _mm_slli_epi32(byte, 12));
}

using Bytes = __m256i;
// What packing leaves in order within each half, in order over both.
BNB_INLINE Bytes in_order(__m256i packed) {
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
BNB_INLINE Bytes pack_int8(Ints a, Ints b, Ints c, Ints d) {
  return in_order(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)));
}
BNB_INLINE Bytes pack_uint8(Ints a, Ints b, Ints c, Ints d) {
  return in_order(_mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)));
}
BNB_INLINE void store_bytes(void *p, Bytes v) { _mm256_storeu_si256(static_cast<__m256i *>(p), v); }
BNB_INLINE void store_nibbles(void *p, Bytes v) {
  const __m256i joined = _mm256_maddubs_epi16(v, _mm256_set1_epi16(0x1001));  // the even one plus the odd one times 16
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(joined, joined), _MM_SHUFFLE(3, 1, 2, 0));
  _mm_storeu_si128(static_cast<__m128i *>(p), _mm256_castsi256_si128(bytes));
}

using Halves = __m256i;
constexpr int kHalfLanes = 16;
BNB_INLINE Halves load_halves(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
BNB_INLINE Halves load_halves_some(const void *p, int64_t count) { return load_halves(Padded<32>(p, count * 2).bytes); }
BNB_INLINE Halves splat_halves(uint16_t u) { return _mm256_set1_epi16(int16_t(u)); }
BNB_INLINE Halves and_halves(Halves a, Halves b) { return _mm256_and_si256(a, b); }
BNB_INLINE Halves max_halves(Halves a, Halves b) { return _mm256_max_epu16(a, b); }
BNB_INLINE Ints fold_halves(Halves v) {
  return and_int(_mm256_max_epu16(v, shift_right<16>(v)), splat_int(0xFFFF));
}

// Everything by minus the rank so far, as the sums of compare results (-1 or 0) below leave it.
struct NibblePlan {
  float quarters[3];  // thresholds 3, 7, 11
  float third[4];     // thresholds 1, 13, 9, 5
  float fourth[8];    // thresholds 0, 14, 12, 10, 8, 6, 4, 2
  uint8_t codes[16];
};
BNB_INLINE constexpr NibblePlan make_nibble_plan(const NibbleFormat &format) {
  NibblePlan plan{};
  const auto threshold = [&](int i) { return formats::float_from_bits(format.thresholds[i]); };
  for (int i = 0; i < 3; ++i) plan.quarters[i] = threshold(4 * i + 3);
  for (int i = 0; i < 4; ++i) plan.third[-i & 3] = threshold(4 * i + 1);
  for (int i = 0; i < 8; ++i) plan.fourth[-i & 7] = threshold(2 * i);
  for (int i = 0; i < 16; ++i) plan.codes[-i & 15] = format.codes[i];
  return plan;
}

struct NibbleCoder {
  Floats quarters[3], third, fourth;  // `third` twice
  __m256i codes;                      // twice
};
BNB_INLINE NibbleCoder make_nibble_coder(const NibblePlan &plan) {
  return {{splat(plan.quarters[0]), splat(plan.quarters[1]), splat(plan.quarters[2])},
          _mm256_broadcast_ps(reinterpret_cast<const __m128 *>(plan.third)),
          _mm256_loadu_ps(plan.fourth),
          _mm256_broadcastsi128_si256(load_16_bytes(plan.codes))};
}
BNB_INLINE Ints minus_rank(const NibbleCoder &coder, Floats x) {
  const auto above = [&](Floats thresholds) { return greater(x, thresholds).lanes; };
  Ints r = add_int(add_int(above(coder.quarters[0]), above(coder.quarters[1])), above(coder.quarters[2]));
  r = add_int(add_int(r, r), above(_mm256_permutevar_ps(coder.third, r)));
  return add_int(add_int(r, r), above(_mm256_permutevar8x32_ps(coder.fourth, r)));
}
BNB_INLINE __m128i join_nibbles(const NibbleCoder &coder, const Floats (&x)[4]) {
  // In each half of 128 bits: four elements of x[0], then four of x[1] ...
  const __m256i ranks = _mm256_packs_epi16(_mm256_packs_epi32(minus_rank(coder, x[0]), minus_rank(coder, x[1])),
                                           _mm256_packs_epi32(minus_rank(coder, x[2]), minus_rank(coder, x[3])));
  const __m256i codes = _mm256_shuffle_epi8(coder.codes, and_int(ranks, _mm256_set1_epi8(15)));
  const __m256i joined = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0110));  // the even one times 16 plus the odd one
  const __m256i bytes = _mm256_packus_epi16(joined, joined);
  return _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}
BNB_INLINE void encode_nibbles(const NibbleCoder &coder, const Floats (&x)[4], void *out) {
  _mm_storeu_si128(static_cast<__m128i *>(out), join_nibbles(coder, x));
}
BNB_INLINE void encode_nibbles_some(const NibbleCoder &coder, const Floats (&x)[4], void *out, int64_t count) {
  Padded<16> padded;
  encode_nibbles(coder, x, padded.bytes);
  padded.copy_to(out, (count + 1) / 2);
}

// Byte i of every value: a byte shuffle looks one of them up for 32 codes at once.
template <typename Tag>
struct NibbleTable {
  static constexpr int kCount = 32, kPlanes = int(sizeof(typename Tag::Storage));
  __m256i planes[kPlanes];  // 16 bytes, twice
};
template <typename Tag>
BNB_INLINE NibbleTable<Tag> make_nibble_table(const void *codebook, float scale) {
  const Floats low = mul(load<F32>(codebook), splat(scale));
  const Floats high = mul(load<F32>(static_cast<const float *>(codebook) + 8), splat(scale));
  const auto twice = [](__m128i plane) { return _mm256_broadcastsi128_si256(plane); };
  if constexpr (Tag::kDType == DType::kF32) {
    // Within 128 bits: first the byte 0 of four values, then their byte 1 ... Then a transposition of such groups.
    const __m256i group = twice(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i a = _mm256_shuffle_epi8(bits(low), group), b = _mm256_shuffle_epi8(bits(high), group);
    const __m256i ab01 = _mm256_unpacklo_epi32(a, b), ab23 = _mm256_unpackhi_epi32(a, b);
    const __m128i l01 = _mm256_castsi256_si128(ab01), h01 = _mm256_extracti128_si256(ab01, 1);
    const __m128i l23 = _mm256_castsi256_si128(ab23), h23 = _mm256_extracti128_si256(ab23, 1);
    return {{twice(_mm_unpacklo_epi32(l01, h01)), twice(_mm_unpackhi_epi32(l01, h01)),
             twice(_mm_unpacklo_epi32(l23, h23)), twice(_mm_unpackhi_epi32(l23, h23))}};
  } else {
    const auto narrow = [](Floats x) { return Tag::kDType == DType::kF16 ? narrow_fp16(x) : narrow_bf16(x); };
    const __m128i l = narrow(low), h = narrow(high), byte = _mm_set1_epi16(0xFF);
    return {{twice(_mm_packus_epi16(_mm_and_si128(l, byte), _mm_and_si128(h, byte))),
             twice(_mm_packus_epi16(_mm_srli_epi16(l, 8), _mm_srli_epi16(h, 8)))}};
  }
}
template <typename Tag>
BNB_INLINE void expand_nibbles(const NibbleTable<Tag> &table, const void *p, void *out) {
  __m256i *to = static_cast<__m256i *>(out);
  const __m256i byte = _mm256_cvtepu8_epi16(load_16_bytes(p));
  const __m256i index = and_int(or_int(_mm256_srli_epi16(byte, 4), _mm256_slli_epi16(byte, 8)), _mm256_set1_epi8(15));
  const auto plane = [&](int i, __m256i order) { return _mm256_shuffle_epi8(table.planes[i], order); };
  if constexpr (Tag::kDType == DType::kF32) {  // the unpacks below work within 128 bits: deal the codes out accordingly
    const __m256i dealt = _mm256_permutevar8x32_epi32(index, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    const __m256i p0 = plane(0, dealt), p1 = plane(1, dealt), p2 = plane(2, dealt), p3 = plane(3, dealt);
    const __m256i low01 = _mm256_unpacklo_epi8(p0, p1), low23 = _mm256_unpacklo_epi8(p2, p3);
    const __m256i high01 = _mm256_unpackhi_epi8(p0, p1), high23 = _mm256_unpackhi_epi8(p2, p3);
    _mm256_storeu_si256(to, _mm256_unpacklo_epi16(low01, low23));
    _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi16(low01, low23));
    _mm256_storeu_si256(to + 2, _mm256_unpacklo_epi16(high01, high23));
    _mm256_storeu_si256(to + 3, _mm256_unpackhi_epi16(high01, high23));
  } else {
    const __m256i dealt = _mm256_permute4x64_epi64(index, _MM_SHUFFLE(3, 1, 2, 0));
    const __m256i p0 = plane(0, dealt), p1 = plane(1, dealt);
    _mm256_storeu_si256(to, _mm256_unpacklo_epi8(p0, p1));
    _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi8(p0, p1));
  }
}
template <typename Tag>
BNB_INLINE void expand_nibbles_some(const NibbleTable<Tag> &table, const void *p, void *out, int64_t count) {
  constexpr int kSize = int(sizeof(typename Tag::Storage));
  Padded<NibbleTable<Tag>::kCount * kSize> padded;
  expand_nibbles(table, Padded<NibbleTable<Tag>::kCount / 2>(p, (count + 1) / 2).bytes, padded.bytes);
  padded.copy_to(out, count * kSize);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX2_H_
