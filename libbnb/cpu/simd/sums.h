// SPDX-License-Identifier: MIT
// Words about sums in float64, in the order that core/sums.h defines.
//
//   LaneSums sums = no_sums()       kSumLanes lanes
//   Squares{}(sums, x)              Floats x[kSumVectors]: the square of element i is added to lane i; it is exact
//   Magnitudes{}(sums, x)           the same with |x|
//   total(sums)                     the lanes, added in order
//   fold(sums)                      the lanes, the upper half added to the lower one until one is left
#ifndef BNB_CPU_SIMD_SUMS_H_
#define BNB_CPU_SIMD_SUMS_H_

#include "core/sums.h"

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kSumVectors = kSumLanes / kLanes;

#if defined(__AVX512F__)
struct LaneSums {
  __m512d low, high;
};
BNB_INLINE LaneSums no_sums() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
struct Squares {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[1]) const {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x[0])),
                  high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x[0], 1));
    sums.low = _mm512_fmadd_pd(low, low, sums.low);
    sums.high = _mm512_fmadd_pd(high, high, sums.high);
  }
};
struct Magnitudes {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[1]) const {
    const Floats magnitude = abs(x[0]);
    sums.low = _mm512_add_pd(sums.low, _mm512_cvtps_pd(_mm512_castps512_ps256(magnitude)));
    sums.high = _mm512_add_pd(sums.high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(magnitude, 1)));
  }
};
BNB_INLINE void store_lanes(const LaneSums &sums, double *lanes) {
  _mm512_storeu_pd(lanes, sums.low);
  _mm512_storeu_pd(lanes + 8, sums.high);
}
BNB_INLINE __m256d fold_to_four(const LaneSums &sums) {
  const __m512d eight = _mm512_add_pd(sums.low, sums.high);
  return _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
}
#elif defined(__AVX2__)
struct LaneSums {
  __m256d quarter[4];
};
BNB_INLINE LaneSums no_sums() {
  const __m256d zero = _mm256_setzero_pd();
  return {{zero, zero, zero, zero}};
}
BNB_INLINE __m256d lower_doubles(Floats x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
BNB_INLINE __m256d upper_doubles(Floats x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
struct Squares {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[2]) const {
    for (int i = 0; i < 2; ++i) {
      const __m256d low = lower_doubles(x[i]), high = upper_doubles(x[i]);
      sums.quarter[2 * i] = _mm256_fmadd_pd(low, low, sums.quarter[2 * i]);
      sums.quarter[2 * i + 1] = _mm256_fmadd_pd(high, high, sums.quarter[2 * i + 1]);
    }
  }
};
struct Magnitudes {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[2]) const {
    for (int i = 0; i < 2; ++i) {
      const Floats magnitude = abs(x[i]);
      sums.quarter[2 * i] = _mm256_add_pd(sums.quarter[2 * i], lower_doubles(magnitude));
      sums.quarter[2 * i + 1] = _mm256_add_pd(sums.quarter[2 * i + 1], upper_doubles(magnitude));
    }
  }
};
BNB_INLINE void store_lanes(const LaneSums &sums, double *lanes) {
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(lanes + 4 * i, sums.quarter[i]);
}
BNB_INLINE __m256d fold_to_four(const LaneSums &sums) {
  return _mm256_add_pd(_mm256_add_pd(sums.quarter[0], sums.quarter[2]), _mm256_add_pd(sums.quarter[1], sums.quarter[3]));
}
#else
struct LaneSums {
  float64x2_t pair[8];
};
BNB_INLINE LaneSums no_sums() {
  const float64x2_t zero = vdupq_n_f64(0.0);
  return {{zero, zero, zero, zero, zero, zero, zero, zero}};
}
// Calls add(pair, x) for the pairs of lanes and the numbers that go there.
template <typename Add>
BNB_INLINE void for_pairs(LaneSums &sums, const Floats (&x)[2], const Add &add) {
  for (int i = 0; i < 2; ++i) {
    const float32x4_t half[2] = {x[i].low, x[i].high};
    for (int j = 0; j < 2; ++j) {
      float64x2_t *pair = sums.pair + 4 * i + 2 * j;
      add(pair[0], vcvt_f64_f32(vget_low_f32(half[j])));
      add(pair[1], vcvt_high_f64_f32(half[j]));
    }
  }
}
struct Squares {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[2]) const {
    for_pairs(sums, x, [](float64x2_t &pair, float64x2_t x2) { pair = vfmaq_f64(pair, x2, x2); });
  }
};
struct Magnitudes {
  BNB_INLINE void operator()(LaneSums &sums, const Floats (&x)[2]) const {
    for_pairs(sums, x, [](float64x2_t &pair, float64x2_t x2) { pair = vaddq_f64(pair, vabsq_f64(x2)); });
  }
};
BNB_INLINE void store_lanes(const LaneSums &sums, double *lanes) {
  for (int i = 0; i < 8; ++i) vst1q_f64(lanes + 2 * i, sums.pair[i]);
}
#endif

BNB_INLINE double total(const LaneSums &sums) {
  double lanes[kSumLanes], sum = 0.0;
  store_lanes(sums, lanes);
  for (double lane : lanes) sum += lane;
  return sum;
}

#if defined(__AVX2__)
BNB_INLINE double fold(const LaneSums &sums) {
  const __m256d four = fold_to_four(sums);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
#else
BNB_INLINE double fold(const LaneSums &sums) {
  float64x2_t eight[4];
  for (int i = 0; i < 4; ++i) eight[i] = vaddq_f64(sums.pair[i], sums.pair[i + 4]);
  const float64x2_t two = vaddq_f64(vaddq_f64(eight[0], eight[2]), vaddq_f64(eight[1], eight[3]));
  return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}
#endif

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_SUMS_H_
