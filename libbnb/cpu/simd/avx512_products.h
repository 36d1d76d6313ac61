// SPDX-License-Identifier: MIT
// The words of products.h in AVX-512.
#ifndef BNB_CPU_SIMD_AVX512_PRODUCTS_H_
#define BNB_CPU_SIMD_AVX512_PRODUCTS_H_

#include "cpu/simd/avx512.h"
#include "cpu/simd/products.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTileRows = 12, kTileVectors = 2, kFewRows = 8;

BNB_INLINE float reduce_add(Floats x) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

BNB_INLINE void transpose(Floats (&x)[16]) {
  Floats y[16];
  BNB_UNROLL for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
  }
  const auto pairs = [](Floats a, Floats b, bool high) {
    const __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(c, d) : _mm512_unpacklo_pd(c, d));
  };
  BNB_UNROLL for (int i = 0; i < 16; i += 4) {  // x[i + j]: column j of each 4 x 4 part of rows i .. i + 3
    x[i] = pairs(y[i], y[i + 2], false);
    x[i + 1] = pairs(y[i], y[i + 2], true);
    x[i + 2] = pairs(y[i + 1], y[i + 3], false);
    x[i + 3] = pairs(y[i + 1], y[i + 3], true);
  }
  BNB_UNROLL for (int j = 0; j < 4; ++j) {
    y[j] = _mm512_shuffle_f32x4(x[j], x[4 + j], 0x88);
    y[4 + j] = _mm512_shuffle_f32x4(x[j], x[4 + j], 0xDD);
    y[8 + j] = _mm512_shuffle_f32x4(x[8 + j], x[12 + j], 0x88);
    y[12 + j] = _mm512_shuffle_f32x4(x[8 + j], x[12 + j], 0xDD);
  }
  BNB_UNROLL for (int j = 0; j < 4; ++j) {
    x[j] = _mm512_shuffle_f32x4(y[j], y[8 + j], 0x88);
    x[4 + j] = _mm512_shuffle_f32x4(y[4 + j], y[12 + j], 0x88);
    x[8 + j] = _mm512_shuffle_f32x4(y[j], y[8 + j], 0xDD);
    x[12 + j] = _mm512_shuffle_f32x4(y[4 + j], y[12 + j], 0xDD);
  }
}

BNB_INLINE Floats spread(const char *p, int64_t count, Ints index) {
  return _mm512_permutexvar_ps(index, _mm512_maskz_loadu_ps(first_lanes(count), p));
}

// A permute looks at the low four bits of an index only.
struct NibbleFloats {
  Floats values;
};
BNB_INLINE NibbleFloats make_nibble_floats(const uint32_t *codebook) { return {load<F32>(codebook)}; }
template <int kNibble>
BNB_INLINE Floats look_up(const NibbleFloats &table, Ints v) {
  if constexpr (kNibble > 0) v = shift_right<4 * kNibble>(v);
  return _mm512_permutexvar_ps(v, table.values);
}

BNB_INLINE Ints load_pairs(const void *p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
}
BNB_INLINE Ints load_pairs_some(const void *p, int64_t count) {
  return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(__mmask32((uint64_t(1) << count) - 1u), p));
}
BNB_INLINE Ints add_pair_products(Ints sums, Ints a, Ints b) { return add_int(sums, _mm512_madd_epi16(a, b)); }

#if defined(__AVX512VNNI__)
using CodeSums = Ints;
constexpr int kMostCodeProducts = 1 << 30;
BNB_INLINE CodeSums begin_code_sums(Ints start) { return start; }
BNB_INLINE CodeSums add_code_products(CodeSums sums, Ints codes, Ints a) { return _mm512_dpbusd_epi32(sums, codes, a); }
BNB_INLINE Ints end_code_sums(Ints, CodeSums sums) { return sums; }
#else
// 16-bit lanes: pairs of products are at most 2 * 3 * 128, which 42 times is below 2^15.
using CodeSums = Ints;
constexpr int kMostCodeProducts = 42;
BNB_INLINE CodeSums begin_code_sums(Ints) { return splat_int(0); }
BNB_INLINE CodeSums add_code_products(CodeSums sums, Ints codes, Ints a) {
  return _mm512_add_epi16(sums, _mm512_maddubs_epi16(codes, a));
}
BNB_INLINE Ints end_code_sums(Ints start, CodeSums sums) {
  return add_int(start, _mm512_madd_epi16(sums, _mm512_set1_epi16(1)));
}
#endif

template <int kBytes>
BNB_INLINE Ints repeat(const void *p) {
  if constexpr (kBytes == 4) return splat_int(bnb::load<int32_t>(p, 0));
  if constexpr (kBytes == 16) return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i *>(p)));
  if constexpr (kBytes == 32) return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
}
template <int kBytes>
BNB_INLINE Ints join(Ints a, Ints b) {
  if constexpr (kBytes == 32) return _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 2, 1, 0));  // gcc 12 fails on a mask for this
  return _mm512_mask_mov_epi32(b, __mmask16((1 << (kBytes / 4)) - 1), a);
}
BNB_INLINE Ints multiply_bytes(Ints a, Ints b) {
  const Ints odd = splat_bits(0xFF00FF00u);
  const Ints upper = _mm512_mullo_epi16(and_int(a, odd), _mm512_srli_epi16(b, 8));
  return select_bits(odd, upper, _mm512_mullo_epi16(a, b));
}
// 3 * v >> 8 is (v + (v >> 1)) >> 7, and an average of x and y is (x + y + 1) >> 1.
BNB_INLINE Ints carries_of_3(Ints v) {
  const Ints below = _mm512_subs_epu8(v, _mm512_set1_epi8(1));  // of 0 nothing is carried, nor of 1
  const Ints three_quarters = _mm512_avg_epu8(below, _mm512_avg_epu8(below, _mm512_setzero_si512()));
  return and_int(shift_right<6>(three_quarters), splat_bits(0x03030303u));
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_PRODUCTS_H_
