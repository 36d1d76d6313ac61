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
BNB_INLINE Ints max_uint(Ints a, Ints b) { return _mm256_max_epu32(a, b); }
BNB_INLINE Ints min_uint(Ints a, Ints b) { return _mm256_min_epu32(a, b); }
template <int N>
BNB_INLINE Ints shift_left(Ints v) {
  return _mm256_slli_epi32(v, N);
}
template <int N>
BNB_INLINE Ints shift_right(Ints v) {
  return _mm256_srli_epi32(v, N);
}
BNB_INLINE uint32_t reduce_max_uint(Ints v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return uint32_t(_mm_cvtsi128_si32(m));
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
template <typename Tag>
BNB_INLINE void stream(void *p, Floats x) {
  if constexpr (Tag::kDType == DType::kF32) _mm256_stream_ps(static_cast<float *>(p), x);
  if constexpr (Tag::kDType == DType::kF16) _mm_stream_si128(static_cast<__m128i *>(p), narrow_fp16(x));
  if constexpr (Tag::kDType == DType::kBF16) _mm_stream_si128(static_cast<__m128i *>(p), narrow_bf16(x));
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
BNB_INLINE Floats gather(const float *table, Ints index) { return _mm256_i32gather_ps(table, index, 4); }
BNB_INLINE Ints gather_bits(const uint32_t *table, Ints index) {
  return _mm256_i32gather_epi32(reinterpret_cast<const int *>(table), index, 4);
}

using Halves = __m256i;
constexpr int kHalfLanes = 16;
BNB_INLINE Halves load_halves(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
BNB_INLINE Halves load_halves_some(const void *p, int64_t count) { return load_halves(Padded<32>(p, count * 2).bytes); }
BNB_INLINE Halves splat_halves(uint16_t u) { return _mm256_set1_epi16(int16_t(u)); }
BNB_INLINE Halves and_halves(Halves a, Halves b) { return _mm256_and_si256(a, b); }
BNB_INLINE Halves max_halves(Halves a, Halves b) { return _mm256_max_epu16(a, b); }
BNB_INLINE uint32_t reduce_max_halves(Halves v) {
  const __m128i n = _mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i inverted = _mm_xor_si128(n, _mm_set1_epi16(-1));  // the machine has a horizontal minimum only
  return 0xFFFFu ^ (uint32_t(_mm_cvtsi128_si32(_mm_minpos_epu16(inverted))) & 0xFFFFu);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX2_H_
