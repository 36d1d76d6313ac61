// SPDX-License-Identifier: MIT
// The words of words.h in AVX-512 F, BW, DQ and VL: sixteen lanes.
#ifndef BNB_CPU_SIMD_AVX512_H_
#define BNB_CPU_SIMD_AVX512_H_

// gcc 12 calls its own "undefined" vectors used uninitialized (gcc bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "cpu/simd/words.h"
#if !defined(__AVX512VBMI__)
#include "cpu/simd/search_path.h"
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

using Floats = __m512;
using Ints = __m512i;
using Mask = __mmask16;
constexpr int kLanes = 16;

BNB_INLINE Floats splat(float x) { return _mm512_set1_ps(x); }
BNB_INLINE Ints splat_int(int32_t i) { return _mm512_set1_epi32(i); }
BNB_INLINE Ints splat_bits(uint32_t u) { return _mm512_set1_epi32(int32_t(u)); }
BNB_INLINE Ints iota_int() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
BNB_INLINE Ints bits(Floats x) { return _mm512_castps_si512(x); }
BNB_INLINE Floats from_bits(Ints v) { return _mm512_castsi512_ps(v); }

BNB_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
BNB_INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
BNB_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
BNB_INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
BNB_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
BNB_INLINE Floats sqrt(Floats x) { return _mm512_sqrt_ps(x); }
BNB_INLINE Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
BNB_INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
BNB_INLINE Ints round_int(Floats x) { return _mm512_cvtps_epi32(x); }
BNB_INLINE Floats to_float(Ints v) { return _mm512_cvtepi32_ps(v); }

BNB_INLINE Ints add_int(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
BNB_INLINE Ints sub_int(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
BNB_INLINE Ints and_int(Ints a, Ints b) { return _mm512_and_si512(a, b); }
BNB_INLINE Ints or_int(Ints a, Ints b) { return _mm512_or_si512(a, b); }
BNB_INLINE Ints xor_int(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
BNB_INLINE Ints and_not(Ints a, Ints b) { return _mm512_andnot_si512(b, a); }
BNB_INLINE Ints select_bits(Ints mask, Ints a, Ints b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); }
BNB_INLINE Ints max_uint(Ints a, Ints b) { return _mm512_max_epu32(a, b); }
BNB_INLINE Ints min_uint(Ints a, Ints b) { return _mm512_min_epu32(a, b); }
BNB_INLINE Ints add_int_where(Mask m, Ints a, Ints b) { return _mm512_mask_add_epi32(a, m, a, b); }
BNB_INLINE Ints sub_or_zero(Ints a, Ints b) { return _mm512_subs_epu16(a, b); }
template <int N>
BNB_INLINE Ints shift_left(Ints v) {
  return _mm512_slli_epi32(v, N);
}
template <int N>
BNB_INLINE Ints shift_right(Ints v) {
  return _mm512_srli_epi32(v, N);
}
template <int N>
BNB_INLINE Ints shift_right_where(Mask m, Ints v) {
  return _mm512_mask_srli_epi32(v, m, v, N);
}
BNB_INLINE uint32_t reduce_max_uint(Ints v) { return _mm512_reduce_max_epu32(v); }
BNB_INLINE void reduce_max_uint(Ints a, Ints b, Ints c, Ints d, uint32_t *out) {
  const Ints ab = max_uint(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const Ints cd = max_uint(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const Ints abcd = max_uint(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
  const __m128i quarter = _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(out), quarter);
}

BNB_INLINE Floats abs(Floats x) { return from_bits(and_int(bits(x), splat_bits(0x7FFFFFFFu))); }
BNB_INLINE Floats copy_sign(Floats magnitude, Floats sign) {
  return from_bits(select_bits(splat_bits(0x7FFFFFFFu), bits(magnitude), bits(sign)));
}

BNB_INLINE Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
BNB_INLINE Mask greater_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
BNB_INLINE Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
BNB_INLINE Mask is_nan(Floats x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
BNB_INLINE Mask greater_int(Ints a, Ints b) { return _mm512_cmpgt_epi32_mask(a, b); }
BNB_INLINE Mask greater_uint(Ints a, Ints b) { return _mm512_cmpgt_epu32_mask(a, b); }
BNB_INLINE Mask equal_int(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(a, b); }
BNB_INLINE Mask both(Mask m, Mask n) { return Mask(m & n); }
BNB_INLINE Mask either(Mask m, Mask n) { return Mask(m | n); }
BNB_INLINE Mask but_not(Mask m, Mask n) { return Mask(m & ~n); }
BNB_INLINE bool any(Mask m) { return m != 0; }
BNB_INLINE uint32_t mask_bits(Mask m) { return m; }
BNB_INLINE Floats select(Mask m, Floats a, Floats b) { return _mm512_mask_blend_ps(m, b, a); }
BNB_INLINE Ints select_int(Mask m, Ints a, Ints b) { return _mm512_mask_blend_epi32(m, b, a); }
BNB_INLINE Mask first_lanes(int64_t count) { return Mask((1u << count) - 1u); }

// bf16 in integers: vcvtneps2bf16 would flush subnormals, and is no faster.
BNB_INLINE __m256i narrow_bf16(Floats x) {
  const Ints u = bits(x);
  const Ints odd = and_int(shift_right<16>(u), splat_int(1));
  const Ints rounded = add_int(u, add_int(odd, splat_int(0x7FFF)));
  const Ints quiet = or_int(u, splat_int(0x400000));
  return _mm512_cvtepi32_epi16(shift_right<16>(select_int(is_nan(x), quiet, rounded)));
}
BNB_INLINE __m256i narrow_fp16(Floats x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BNB_INLINE Floats widen_bf16(__m256i h) { return from_bits(shift_left<16>(_mm512_cvtepu16_epi32(h))); }
BNB_INLINE Floats widen_fp16(__m256i h) { return _mm512_cvtph_ps(h); }

template <typename Tag>
BNB_INLINE Floats load(const void *p) {
  if constexpr (Tag::kDType == DType::kF32) return _mm512_loadu_ps(p);
  if constexpr (Tag::kDType == DType::kF16) return widen_fp16(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
  if constexpr (Tag::kDType == DType::kBF16) return widen_bf16(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
}
template <typename Tag>
BNB_INLINE Floats load_some(const void *p, int64_t count) {
  if constexpr (Tag::kDType == DType::kF32) return _mm512_maskz_loadu_ps(first_lanes(count), p);
  if constexpr (Tag::kDType == DType::kF16) return widen_fp16(_mm256_maskz_loadu_epi16(first_lanes(count), p));
  if constexpr (Tag::kDType == DType::kBF16) return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
template <typename Tag>
BNB_INLINE void store(void *p, Floats x) {
  if constexpr (Tag::kDType == DType::kF32) _mm512_storeu_ps(p, x);
  if constexpr (Tag::kDType == DType::kF16) _mm256_storeu_si256(static_cast<__m256i *>(p), narrow_fp16(x));
  if constexpr (Tag::kDType == DType::kBF16) _mm256_storeu_si256(static_cast<__m256i *>(p), narrow_bf16(x));
}
template <typename Tag>
BNB_INLINE void store_some(void *p, Floats x, int64_t count) {
  if constexpr (Tag::kDType == DType::kF32) _mm512_mask_storeu_ps(p, first_lanes(count), x);
  if constexpr (Tag::kDType == DType::kF16) _mm256_mask_storeu_epi16(p, first_lanes(count), narrow_fp16(x));
  if constexpr (Tag::kDType == DType::kBF16) _mm256_mask_storeu_epi16(p, first_lanes(count), narrow_bf16(x));
}
constexpr bool kStreams = true;
BNB_INLINE void stream_line(void *p, const void *from) {
  _mm512_stream_si512(static_cast<__m512i *>(p), _mm512_loadu_si512(from));
}
BNB_INLINE void stream_fence() { _mm_sfence(); }

BNB_INLINE Ints load_int32(const void *p) { return _mm512_loadu_si512(p); }
BNB_INLINE Ints load_int32_some(const void *p, int64_t count) { return _mm512_maskz_loadu_epi32(first_lanes(count), p); }
BNB_INLINE Ints load_int8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i *>(p))); }
BNB_INLINE Ints load_int8_some(const void *p, int64_t count) {
  return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(count), p));
}
BNB_INLINE Ints load_uint8(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i *>(p))); }
BNB_INLINE Ints load_uint8_some(const void *p, int64_t count) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(count), p));
}
BNB_INLINE void store_int32(void *p, Ints v) { _mm512_storeu_si512(p, v); }
BNB_INLINE void store_int8(void *p, Ints v) { _mm_storeu_si128(static_cast<__m128i *>(p), _mm512_cvtsepi32_epi8(v)); }
BNB_INLINE void store_int8_some(void *p, Ints v, int64_t count) {
  _mm_mask_storeu_epi8(p, first_lanes(count), _mm512_cvtsepi32_epi8(v));
}
BNB_INLINE void store_uint8(void *p, Ints v) { _mm_storeu_si128(static_cast<__m128i *>(p), _mm512_cvtepi32_epi8(v)); }
BNB_INLINE void store_uint8_some(void *p, Ints v, int64_t count) {
  _mm_mask_storeu_epi8(p, first_lanes(count), _mm512_cvtepi32_epi8(v));
}
// A gather keeps what its destination held in lanes that are off. gcc, knowing that none is, lets the destination be any register,
// and each gather waits for whatever wrote that last: so it may not know.
BNB_INLINE Mask every_lane() {
  Mask ones = Mask(-1);
#if defined(__GNUC__)
  __asm__("" : "+Yk"(ones));
#endif
  return ones;
}
BNB_INLINE Floats gather(const float *table, Ints index) {
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), every_lane(), index, table, 4);
}
BNB_INLINE Ints gather_bits(const uint32_t *table, Ints index) {
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), every_lane(), index, table, 4);
}

using Shorts = __m256i;
BNB_INLINE Shorts load_int8_shorts(const void *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i *>(p))); }
BNB_INLINE Shorts load_int8_shorts_some(const void *p, int64_t count) {
  return _mm256_cvtepi8_epi16(_mm_maskz_loadu_epi8(first_lanes(count), p));
}
BNB_INLINE Shorts splat_shorts(uint16_t u) { return _mm256_set1_epi16(int16_t(u)); }
BNB_INLINE Shorts and_shorts(Shorts a, Shorts b) { return _mm256_and_si256(a, b); }
BNB_INLINE Shorts or_shorts(Shorts a, Shorts b) { return _mm256_or_si256(a, b); }
BNB_INLINE Shorts equal_shorts(Shorts a, Shorts b) { return _mm256_cmpeq_epi16(a, b); }
template <int N>
BNB_INLINE Shorts shift_left_shorts(Shorts v) {
  return _mm256_slli_epi16(v, N);
}
BNB_INLINE Shorts shift_left_shorts_by(Shorts v, int count) { return _mm256_sll_epi16(v, _mm_cvtsi32_si128(count)); }

BNB_INLINE Shorts load_nibble_shorts(const void *p) {
  const __m256i byte = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i *>(p)));
  return _mm256_or_si256(byte, _mm256_slli_epi32(byte, 12));
}

using Bytes = __m512i;
// What packing leaves in order within each quarter, in order over all.
BNB_INLINE Bytes in_order(__m512i packed) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
}
BNB_INLINE Bytes pack_int8(Ints a, Ints b, Ints c, Ints d) {
  return in_order(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}
BNB_INLINE Bytes pack_uint8(Ints a, Ints b, Ints c, Ints d) {
  return in_order(_mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}
BNB_INLINE void store_bytes(void *p, Bytes v) { _mm512_storeu_si512(p, v); }
BNB_INLINE void store_nibbles(void *p, Bytes v) {
  const __m512i joined = _mm512_maddubs_epi16(v, _mm512_set1_epi16(0x1001));  // the even one plus the odd one times 16
  _mm256_storeu_si256(static_cast<__m256i *>(p), _mm512_cvtepi16_epi8(joined));
}

using Halves = __m512i;
constexpr int kHalfLanes = 32;
BNB_INLINE Halves load_halves(const void *p) { return _mm512_loadu_si512(p); }
BNB_INLINE Halves load_halves_some(const void *p, int64_t count) {
  return _mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << count) - 1u), p);
}
BNB_INLINE Halves splat_halves(uint16_t u) { return _mm512_set1_epi16(int16_t(u)); }
BNB_INLINE Halves and_halves(Halves a, Halves b) { return _mm512_and_si512(a, b); }
BNB_INLINE Halves max_halves(Halves a, Halves b) { return _mm512_max_epu16(a, b); }
BNB_INLINE Ints fold_halves(Halves v) {
  return and_int(_mm512_max_epu16(v, shift_right<16>(v)), splat_int(0xFFFF));
}

#if !defined(__AVX512VBMI__)  // else: avx512_bf16.h
struct NibbleCoder {
  Floats first, second[2], third, fourth;
  Ints code_of_path;  // the 16 bytes, four times
  Ints bit_of_path[4];  // 1, 2, 4, 8: read from memory, as broadcasts would keep the port of the permutes busy
};
BNB_INLINE NibbleCoder make_nibble_coder(const NibblePlan &plan) {
  return {splat(plan.first),
          {splat(plan.second[0]), splat(plan.second[1])},
          _mm512_broadcast_f32x4(_mm_loadu_ps(plan.third)),
          _mm512_castps256_ps512(_mm256_loadu_ps(plan.fourth)),
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(plan.code_of_path))),
          {splat_int(1), splat_int(2), splat_int(4), splat_int(8)}};
}
BNB_INLINE Ints search_path(const NibbleCoder &coder, Floats x) {
  const Mask m1 = greater(x, coder.first);
  Ints path = _mm512_maskz_mov_epi32(m1, coder.bit_of_path[0]);
  path = add_int_where(greater(x, select(m1, coder.second[1], coder.second[0])), path, coder.bit_of_path[1]);
  path = add_int_where(greater(x, _mm512_permutexvar_ps(path, coder.third)), path, coder.bit_of_path[2]);
  return add_int_where(greater(x, _mm512_permutexvar_ps(path, coder.fourth)), path, coder.bit_of_path[3]);
}
BNB_INLINE __m256i join_nibbles(const NibbleCoder &coder, const Floats (&x)[4]) {
  const Ints low = or_int(search_path(coder, x[0]), shift_left<8>(search_path(coder, x[1])));
  const Ints high = or_int(shift_left<16>(search_path(coder, x[2])), shift_left<24>(search_path(coder, x[3])));
  const Ints codes = _mm512_shuffle_epi8(coder.code_of_path, or_int(low, high));
  // Byte j of 64-bit lane k is now the byte of elements 2k and 2k + 1 of x[j].
  const Ints pairs = or_int(shift_left<4>(codes), _mm512_srli_epi64(codes, 32));
  const __m256i transpose = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i bytes = _mm256_shuffle_epi8(_mm512_cvtepi64_epi32(pairs), transpose);
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
BNB_INLINE void encode_nibbles(const NibbleCoder &coder, const Floats (&x)[4], void *out) {
  _mm256_storeu_si256(static_cast<__m256i *>(out), join_nibbles(coder, x));
}
BNB_INLINE void encode_nibbles_some(const NibbleCoder &coder, const Floats (&x)[4], void *out, int64_t count) {
  _mm256_mask_storeu_epi8(out, __mmask32((uint64_t(1) << ((count + 1) / 2)) - 1u), join_nibbles(coder, x));
}
#endif

// Permutes look at the low bits of an index only: the upper bits may hold the other nibble, if the table repeats.
template <typename Tag>
struct NibbleTable {
  static constexpr int kCount = 32;
  __m512i values;  // 16-bit, twice
};
template <>
struct NibbleTable<F32> {
  static constexpr int kCount = 16;
  Floats values;
};
template <typename Tag>
BNB_INLINE NibbleTable<Tag> make_nibble_table(const void *codebook, float scale) {
  const Floats products = mul(load<F32>(codebook), splat(scale));
  if constexpr (Tag::kDType == DType::kF32) return {products};
  if constexpr (Tag::kDType == DType::kF16) return {_mm512_broadcast_i64x4(narrow_fp16(products))};
  if constexpr (Tag::kDType == DType::kBF16) return {_mm512_broadcast_i64x4(narrow_bf16(products))};
}
BNB_INLINE __m512i look_up_nibbles(const NibbleTable<F32> &table, __m128i bytes) {
  const __m512i byte = _mm512_cvtepu8_epi64(bytes);
  const __m512i index = or_int(_mm512_srli_epi64(byte, 4), _mm512_slli_epi64(byte, 32));
  return bits(_mm512_permutexvar_ps(index, table.values));
}
template <typename Tag>
BNB_INLINE __m512i look_up_nibbles(const NibbleTable<Tag> &table, __m128i bytes) {
  const __m512i byte = _mm512_cvtepu8_epi32(bytes);
  const __m512i index = or_int(shift_right<4>(byte), shift_left<16>(byte));
  return _mm512_permutexvar_epi16(index, table.values);
}
template <typename Tag>
BNB_INLINE void expand_nibbles(const NibbleTable<Tag> &table, const void *p, void *out) {
  const __m128i *from = static_cast<const __m128i *>(p);
  const __m128i bytes = Tag::kDType == DType::kF32 ? _mm_loadl_epi64(from) : _mm_loadu_si128(from);
  _mm512_storeu_si512(out, look_up_nibbles(table, bytes));
}
template <typename Tag>
BNB_INLINE void expand_nibbles_some(const NibbleTable<Tag> &table, const void *p, void *out, int64_t count) {
  const __m512i values = look_up_nibbles(table, _mm_maskz_loadu_epi8(__mmask16((1u << ((count + 1) / 2)) - 1u), p));
  if constexpr (Tag::kDType == DType::kF32) {
    _mm512_mask_storeu_epi32(out, first_lanes(count), values);
  } else {
    _mm512_mask_storeu_epi16(out, __mmask32((uint64_t(1) << count) - 1u), values);
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_H_
