// SPDX-License-Identifier: MIT
// The words of products.h in AVX2.
#ifndef BNB_CPU_SIMD_AVX2_PRODUCTS_H_
#define BNB_CPU_SIMD_AVX2_PRODUCTS_H_

#include "cpu/simd/avx2.h"
#include "cpu/simd/products.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTileRows = 6, kTileVectors = 2, kFewRows = 4;

BNB_INLINE float reduce_add(Floats x) {
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

BNB_INLINE void transpose(Floats (&x)[8]) {
  Floats y[8];
  BNB_UNROLL for (int i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  BNB_UNROLL for (int i = 0; i < 8; i += 4) {  // x[i + j]: column j of each 4 x 4 part of rows i .. i + 3
    x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xEE);
    x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xEE);
  }
  BNB_UNROLL for (int j = 0; j < 4; ++j) {
    y[j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x20);
    y[4 + j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x31);
  }
  BNB_UNROLL for (int i = 0; i < 8; ++i) x[i] = y[i];
}

BNB_INLINE Floats spread(const char *p, int64_t count, Ints index) {
  return _mm256_permutevar8x32_ps(load_some<F32>(p, count), index);
}

// A permute looks at the low three bits of an index only; the fourth chooses between two of them.
struct NibbleFloats {
  Floats low, high;
};
BNB_INLINE NibbleFloats make_nibble_floats(const uint32_t *codebook) { return {load<F32>(codebook), load<F32>(codebook + 8)}; }
template <int kNibble>
BNB_INLINE Floats look_up(const NibbleFloats &table, Ints v) {
  Ints index = v;
  if constexpr (kNibble > 0) index = shift_right<4 * kNibble>(v);
  const Floats low = _mm256_permutevar8x32_ps(table.low, index), high = _mm256_permutevar8x32_ps(table.high, index);
  if constexpr (kNibble == 7) return _mm256_blendv_ps(low, high, from_bits(v));
  if constexpr (kNibble < 7) return _mm256_blendv_ps(low, high, from_bits(shift_left<28 - 4 * kNibble>(v)));
}

BNB_INLINE Ints load_pairs(const void *p) { return _mm256_cvtepi8_epi16(load_16_bytes(p)); }
BNB_INLINE Ints load_pairs_some(const void *p, int64_t count) { return load_pairs(Padded<16>(p, count).bytes); }
BNB_INLINE Ints add_pair_products(Ints sums, Ints a, Ints b) { return add_int(sums, _mm256_madd_epi16(a, b)); }

// 16-bit lanes: pairs of products are at most 2 * 3 * 128, which 42 times is below 2^15.
using CodeSums = Ints;
constexpr int kMostCodeProducts = 42;
BNB_INLINE CodeSums begin_code_sums(Ints) { return splat_int(0); }
BNB_INLINE CodeSums add_code_products(CodeSums sums, Ints codes, Ints a) {
  return _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, a));
}
BNB_INLINE Ints end_code_sums(Ints start, CodeSums sums) {
  return add_int(start, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
}

template <int kBytes>
BNB_INLINE Ints repeat(const void *p) {
  if constexpr (kBytes == 4) return splat_int(bnb::load<int32_t>(p, 0));
  if constexpr (kBytes == 16) return _mm256_broadcastsi128_si256(load_16_bytes(p));
  if constexpr (kBytes == 32) return load_int32(p);
}
template <int kBytes>
BNB_INLINE Ints join(Ints a, Ints b) {
  return _mm256_blend_epi32(b, a, (1 << (kBytes / 4)) - 1);
}
BNB_INLINE Ints multiply_bytes(Ints a, Ints b) {
  const Ints odd = splat_bits(0xFF00FF00u);
  const Ints upper = _mm256_mullo_epi16(and_int(a, odd), _mm256_srli_epi16(b, 8));
  return select_bits(odd, upper, _mm256_mullo_epi16(a, b));
}
// 3 * v >> 8 is (v + (v >> 1)) >> 7, and an average of x and y is (x + y + 1) >> 1.
BNB_INLINE Ints carries_of_3(Ints v) {
  const Ints below = _mm256_subs_epu8(v, _mm256_set1_epi8(1));  // of 0 nothing is carried, nor of 1
  const Ints three_quarters = _mm256_avg_epu8(below, _mm256_avg_epu8(below, _mm256_setzero_si256()));
  return and_int(shift_right<6>(three_quarters), splat_bits(0x03030303u));
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX2_PRODUCTS_H_
