// SPDX-License-Identifier: MIT
// The one order of sums over tensors, whatever the instruction set and the number of threads. All in float64.
#ifndef BNB_CORE_SUMS_H_
#define BNB_CORE_SUMS_H_

#include <cstdint>

#include "formats/portable.h"

namespace bnb {

// Element i of a piece is added to lane i % kSumLanes. The lanes of a piece are added up (squares: in order; magnitudes: the upper
// half of them to the lower one until one is left), then the pieces of a section in order, then the sections.
constexpr int64_t kSumLanes = 16, kSumPiece = 1024, kSumSection = 64 * kSumPiece;

// The fp32 scale that a sum of magnitudes makes; the canonical NaN if one of them was NaN.
BNB_INLINE float mean_of(double sum, int64_t count) {
  return sum == sum ? float(sum / double(count)) : formats::float_from_bits(0x7FC00000u);
}

}  // namespace bnb

#endif  // BNB_CORE_SUMS_H_
