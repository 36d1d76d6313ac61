// SPDX-License-Identifier: MIT
// Words about sums of squares in float64, in the order that core/optimizer.h defines.
//
//   SquareSums sums = no_squares()        kSumLanes lanes
//   add_squares(sums, x)                  Floats x[kSumVectors]: element i of them goes to lane i; a square is exact
//   total(sums)                           the lanes, added in order
#ifndef BNB_CPU_SIMD_SUMS_H_
#define BNB_CPU_SIMD_SUMS_H_

#include "core/optimizer.h"

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kSumVectors = kSumLanes / kLanes;

#if defined(__AVX512F__)
struct SquareSums {
  __m512d low, high;
};
BNB_INLINE SquareSums no_squares() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
BNB_INLINE void add_squares(SquareSums &sums, const Floats (&x)[1]) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x[0])),
                high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x[0], 1));
  sums.low = _mm512_fmadd_pd(low, low, sums.low);
  sums.high = _mm512_fmadd_pd(high, high, sums.high);
}
BNB_INLINE void store_lanes(const SquareSums &sums, double *lanes) {
  _mm512_storeu_pd(lanes, sums.low);
  _mm512_storeu_pd(lanes + 8, sums.high);
}
#elif defined(__AVX2__)
struct SquareSums {
  __m256d quarter[4];
};
BNB_INLINE SquareSums no_squares() {
  const __m256d zero = _mm256_setzero_pd();
  return {{zero, zero, zero, zero}};
}
BNB_INLINE void add_squares(SquareSums &sums, const Floats (&x)[2]) {
  for (int i = 0; i < 2; ++i) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x[i])),
                  high = _mm256_cvtps_pd(_mm256_extractf128_ps(x[i], 1));
    sums.quarter[2 * i] = _mm256_fmadd_pd(low, low, sums.quarter[2 * i]);
    sums.quarter[2 * i + 1] = _mm256_fmadd_pd(high, high, sums.quarter[2 * i + 1]);
  }
}
BNB_INLINE void store_lanes(const SquareSums &sums, double *lanes) {
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(lanes + 4 * i, sums.quarter[i]);
}
#else
struct SquareSums {
  float64x2_t pair[8];
};
BNB_INLINE SquareSums no_squares() {
  const float64x2_t zero = vdupq_n_f64(0.0);
  return {{zero, zero, zero, zero, zero, zero, zero, zero}};
}
BNB_INLINE void add_squares(SquareSums &sums, const Floats (&x)[2]) {
  for (int i = 0; i < 2; ++i) {
    const float32x4_t half[2] = {x[i].low, x[i].high};
    for (int j = 0; j < 2; ++j) {
      const float64x2_t low = vcvt_f64_f32(vget_low_f32(half[j])), high = vcvt_high_f64_f32(half[j]);
      float64x2_t *pair = sums.pair + 4 * i + 2 * j;
      pair[0] = vfmaq_f64(pair[0], low, low);
      pair[1] = vfmaq_f64(pair[1], high, high);
    }
  }
}
BNB_INLINE void store_lanes(const SquareSums &sums, double *lanes) {
  for (int i = 0; i < 8; ++i) vst1q_f64(lanes + 2 * i, sums.pair[i]);
}
#endif

BNB_INLINE double total(const SquareSums &sums) {
  double lanes[kSumLanes], sum = 0.0;
  store_lanes(sums, lanes);
  for (double lane : lanes) sum += lane;
  return sum;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_SUMS_H_
