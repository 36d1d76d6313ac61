// SPDX-License-Identifier: MIT
// The rule of every absmax format, in plain words: the largest magnitude of a block, and a block divided by it.
#ifndef BNB_REFERENCE_NORMALISE_H_
#define BNB_REFERENCE_NORMALISE_H_

#include <cmath>
#include <limits>

namespace bnb::reference {

// The larger of a magnitude and |x|; the canonical NaN if one of them is NaN.
inline float larger(float magnitude, float x) {
  if (std::isnan(magnitude) || std::isnan(x)) return std::numeric_limits<float>::quiet_NaN();
  return std::fabs(x) > magnitude ? std::fabs(x) : magnitude;
}

// Largest |x(i)| for i in [begin, end); the canonical NaN if one of them is NaN.
template <typename Element>
float absmax_of(int64_t begin, int64_t end, Element &&x) {
  float absmax = 0.0f;
  for (int64_t i = begin; i < end; ++i) absmax = larger(absmax, x(i));
  return absmax;
}

// x' of bnb.h: |x'| <= 1 (or an ulp or two above), NaN for a block with NaN, 0 for the finite elements of an infinite block.
inline float normalise(float x, float absmax) {
  if (absmax == 0.0f) return 0.0f;
  if (std::isinf(absmax)) return std::isinf(x) ? std::copysign(1.0f, x) : 0.0f;
  const float reciprocal = 1.0f / absmax;
  return std::isinf(reciprocal) ? x / absmax : x * reciprocal;
}

}  // namespace bnb::reference

#endif  // BNB_REFERENCE_NORMALISE_H_
