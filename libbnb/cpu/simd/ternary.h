// SPDX-License-Identifier: MIT
// Words about ternary codes: numbers to codes, codes to values, and 32 codes at a time, one a byte.
//
//   TritLimits<Tag> limits = make_trit_limits<Tag>(magnitude)   bits of the largest magnitude of the dtype that becomes 0
//   encode_trits(limits, p, out)        kTritsAtOnce numbers at p -> as many bytes of 0, 1, 2. NaN must be below the limit
//   TritTable<Tag> table = make_trit_table<Tag>(scale)          the values of codes 0 .. 3, each rounded once
//   expand_trits(table, codes, out)     kTritsExpanded<Tag> codes, one a byte -> as many values
//
//   Row                                 32 bytes; load_row(p), store_row(p, row), splat_row(u): a 32-bit word eight times
//   add_rows(a, b) of 32-bit words, or_rows, and_rows, select_row_bits(mask, a, b), shift_row_left<N>(a), shift_row_right<N>(a)
#ifndef BNB_CPU_SIMD_TERNARY_H_
#define BNB_CPU_SIMD_TERNARY_H_

#include "formats/ternary.h"

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTritsAtOnce = 4 * kLanes;

// A number is 1 if its bits are above the limit as a signed integer, and -1 if they are above the limit with the sign bit set, as an
// unsigned one.
template <typename Tag>
struct TritLimits {
  Halves positive, negative;
};
template <>
struct TritLimits<F32> {
  Ints positive, negative;
};
template <typename Tag>
BNB_INLINE TritLimits<Tag> make_trit_limits(uint32_t magnitude) {
  if constexpr (Tag::kDType == DType::kF32) {
    return {splat_bits(magnitude), splat_bits(magnitude | 0x80000000u)};
  } else {
    return {splat_halves(uint16_t(magnitude)), splat_halves(uint16_t(magnitude | 0x8000u))};
  }
}

BNB_INLINE void encode_trits(const TritLimits<F32> &limits, const char *p, uint8_t *out) {
  const Ints one = splat_int(1), minus_one = splat_int(-1);
  const auto codes = [&](int i) {
    const Ints x = load_int32(p + i * kLanes * 4);
    const Ints not_less = add_int_where(greater_int(x, limits.positive), one, one);
    return add_int_where(greater_uint(x, limits.negative), not_less, minus_one);
  };
  store_bytes(out, pack_uint8(codes(0), codes(1), codes(2), codes(3)));
}

#if defined(__AVX512F__)
BNB_INLINE Halves halves_to_trits(Halves positive, Halves negative, Halves x) {
  const Halves one = splat_halves(1);
  const Halves not_less = _mm512_mask_add_epi16(one, _mm512_cmpgt_epi16_mask(x, positive), one, one);
  return _mm512_mask_sub_epi16(not_less, _mm512_cmpgt_epu16_mask(x, negative), not_less, one);
}
template <typename Tag>
BNB_INLINE void encode_trits(const TritLimits<Tag> &limits, const char *p, uint8_t *out) {
  const Halves low = halves_to_trits(limits.positive, limits.negative, load_halves(p));
  const Halves high = halves_to_trits(limits.positive, limits.negative, load_halves(p + 64));
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi64(order, _mm512_packus_epi16(low, high)));
}
#elif defined(__AVX2__)
BNB_INLINE Halves halves_to_trits(Halves positive, Halves, Halves x) {
  const __m256i is_positive = _mm256_cmpgt_epi16(x, positive);  // -1 where it is so
  const __m256i is_negative = _mm256_cmpgt_epi16(_mm256_xor_si256(x, splat_halves(0x8000)), positive);
  return _mm256_add_epi16(splat_halves(1), _mm256_sub_epi16(is_negative, is_positive));
}
template <typename Tag>
BNB_INLINE void encode_trits(const TritLimits<Tag> &limits, const char *p, uint8_t *out) {
  const Halves low = halves_to_trits(limits.positive, limits.negative, load_halves(p));
  const Halves high = halves_to_trits(limits.positive, limits.negative, load_halves(p + 32));
  store_bytes(out, _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xD8));
}
#else
template <typename Tag>
BNB_INLINE void encode_trits(const TritLimits<Tag> &limits, const char *p, uint8_t *out) {
  for (int i = 0; i < 4; ++i) {
    const uint16x8_t x = load_halves(p + i * 16);
    const uint16x8_t is_positive = vcgtq_s16(vreinterpretq_s16_u16(x), vreinterpretq_s16_u16(limits.positive));
    const uint16x8_t is_negative = vcgtq_u16(x, limits.negative);
    vst1_u8(out + i * 8, vmovn_u16(vaddq_u16(splat_halves(1), vsubq_u16(is_negative, is_positive))));
  }
}
#endif

// Products of the codes' values with a scale, in the first four lanes.
BNB_INLINE Floats trit_values(float scale) {
  float values[kLanes] = {};
  for (int code = 0; code < 4; ++code) values[code] = float(formats::ternary::value(uint8_t(code)));
  return mul(load<F32>(values), splat(scale));
}

#if defined(__AVX512F__)
template <typename Tag>
struct TritTable {
  __m512i values;  // 16-bit in the first four places
};
template <>
struct TritTable<F32> {
  Floats values;
};
template <typename Tag>
constexpr int kTritsExpanded = Tag::kDType == DType::kF32 ? 16 : 32;
template <typename Tag>
BNB_INLINE TritTable<Tag> make_trit_table(float scale) {
  if constexpr (Tag::kDType == DType::kF32) return {trit_values(scale)};
  if constexpr (Tag::kDType == DType::kF16) return {_mm512_castsi256_si512(narrow_fp16(trit_values(scale)))};
  if constexpr (Tag::kDType == DType::kBF16) return {_mm512_castsi256_si512(narrow_bf16(trit_values(scale)))};
}
BNB_INLINE void expand_trits(const TritTable<F32> &table, const uint8_t *codes, char *out) {
  store<F32>(out, _mm512_permutexvar_ps(load_uint8(codes), table.values));
}
template <typename Tag>
BNB_INLINE void expand_trits(const TritTable<Tag> &table, const uint8_t *codes, char *out) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(codes));
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(bytes), table.values));
}
#elif defined(__AVX2__)
template <typename Tag>
struct TritTable {
  __m128i low, high;  // bytes of the values, in the first four places
};
template <>
struct TritTable<F32> {
  Floats values;
};
template <typename Tag>
constexpr int kTritsExpanded = Tag::kDType == DType::kF32 ? 8 : 16;
template <typename Tag>
BNB_INLINE TritTable<Tag> make_trit_table(float scale) {
  if constexpr (Tag::kDType == DType::kF32) {
    return {trit_values(scale)};
  } else {
    const __m128i values = Tag::kDType == DType::kF16 ? narrow_fp16(trit_values(scale)) : narrow_bf16(trit_values(scale));
    const __m128i even = _mm_setr_epi8(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
    return {_mm_shuffle_epi8(values, even), _mm_shuffle_epi8(values, _mm_add_epi8(even, _mm_set1_epi8(1)))};
  }
}
BNB_INLINE void expand_trits(const TritTable<F32> &table, const uint8_t *codes, char *out) {
  store<F32>(out, _mm256_permutevar8x32_ps(table.values, load_uint8(codes)));
}
template <typename Tag>
BNB_INLINE void expand_trits(const TritTable<Tag> &table, const uint8_t *codes, char *out) {
  const __m128i index = load_16_bytes(codes);
  const __m128i low = _mm_shuffle_epi8(table.low, index), high = _mm_shuffle_epi8(table.high, index);
  _mm_storeu_si128(reinterpret_cast<__m128i *>(out), _mm_unpacklo_epi8(low, high));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(out + 16), _mm_unpackhi_epi8(low, high));
}
#else
template <typename Tag>
struct TritTable {
  uint8x16_t low, high;  // bytes of the values, in the first four places
};
template <>
struct TritTable<F32> {
  uint8x16_t values;
};
template <typename Tag>
constexpr int kTritsExpanded = Tag::kDType == DType::kF32 ? 8 : 16;
template <typename Tag>
BNB_INLINE TritTable<Tag> make_trit_table(float scale) {
  if constexpr (Tag::kDType == DType::kF32) {
    return {vreinterpretq_u8_f32(trit_values(scale).low)};
  } else {
    const uint8x16_t values = vreinterpretq_u8_u16(Tag::kDType == DType::kF16 ? narrow_fp16(trit_values(scale))
                                                                              : narrow_bf16(trit_values(scale)));
    return {vuzp1q_u8(values, values), vuzp2q_u8(values, values)};
  }
}
BNB_INLINE void expand_trits(const TritTable<F32> &table, const uint8_t *codes, char *out) {
  const Ints code = load_uint8(codes);
  const uint32x4_t first = vdupq_n_u32(0x03020100u);  // the bytes of the value of code 0
  const uint32x4_t low = vmlaq_n_u32(first, code.low, 0x04040404u), high = vmlaq_n_u32(first, code.high, 0x04040404u);
  store_int32(out, {vreinterpretq_u32_u8(vqtbl1q_u8(table.values, vreinterpretq_u8_u32(low))),
                    vreinterpretq_u32_u8(vqtbl1q_u8(table.values, vreinterpretq_u8_u32(high)))});
}
template <typename Tag>
BNB_INLINE void expand_trits(const TritTable<Tag> &table, const uint8_t *codes, char *out) {
  const uint8x16_t index = load_16_bytes(codes);
  const uint8x16_t low = vqtbl1q_u8(table.low, index), high = vqtbl1q_u8(table.high, index);
  store_bytes(out, {vzip1q_u8(low, high), vzip2q_u8(low, high)});
}
#endif

#if defined(__AVX2__)
using Row = __m256i;
BNB_INLINE Row load_row(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
BNB_INLINE void store_row(void *p, Row row) { _mm256_storeu_si256(static_cast<__m256i *>(p), row); }
BNB_INLINE Row splat_row(uint32_t u) { return _mm256_set1_epi32(int32_t(u)); }
BNB_INLINE Row add_rows(Row a, Row b) { return _mm256_add_epi32(a, b); }
BNB_INLINE Row or_rows(Row a, Row b) { return _mm256_or_si256(a, b); }
BNB_INLINE Row and_rows(Row a, Row b) { return _mm256_and_si256(a, b); }
BNB_INLINE Row select_row_bits(Row mask, Row a, Row b) {
  return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}
template <int N>
BNB_INLINE Row shift_row_left(Row a) {
  return _mm256_slli_epi32(a, N);
}
template <int N>
BNB_INLINE Row shift_row_right(Row a) {
  return _mm256_srli_epi32(a, N);
}
#else
static_assert(kLanes == 8, "as many bytes as a row has");
using Row = Ints;
BNB_INLINE Row load_row(const void *p) { return load_int32(p); }
BNB_INLINE void store_row(void *p, Row row) { store_int32(p, row); }
BNB_INLINE Row splat_row(uint32_t u) { return splat_bits(u); }
BNB_INLINE Row add_rows(Row a, Row b) { return add_int(a, b); }
BNB_INLINE Row or_rows(Row a, Row b) { return or_int(a, b); }
BNB_INLINE Row and_rows(Row a, Row b) { return and_int(a, b); }
BNB_INLINE Row select_row_bits(Row mask, Row a, Row b) { return select_bits(mask, a, b); }
template <int N>
BNB_INLINE Row shift_row_left(Row a) {
  return shift_left<N>(a);
}
template <int N>
BNB_INLINE Row shift_row_right(Row a) {
  return shift_right<N>(a);
}
#endif

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_TERNARY_H_
