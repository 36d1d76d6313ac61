// SPDX-License-Identifier: MIT
// Sums in float64 whose bits do not depend on the number of threads.
#ifndef BNB_CPU_OPS_SUM_H_
#define BNB_CPU_OPS_SUM_H_

#include "core/ops.h"
#include "cpu/float_environment.h"
#include "cpu/threads.h"

namespace bnb::cpu {

// The sum of value(i) over [0, n): pieces of 1024 elements are summed in 16 interleaved lanes, the lanes of a piece and
// then the pieces are added in order. element_bytes: what value() reads.
template <typename Value>
double ordered_sum(int64_t n, int64_t element_bytes, const Value &value) {
  constexpr int64_t kPiece = 1024, kLanes = 16;
  constexpr int64_t kAtOnce = 512;  // pieces whose sums wait on the stack
  const DefaultFloatEnvironment environment;
  double sum = 0.0, sums[kAtOnce];
  for (int64_t first = 0; first < n; first += kAtOnce * kPiece) {
    const int64_t left = ceil_div(n - first, kPiece), pieces = left < kAtOnce ? left : kAtOnce;
    parallel_for(pieces, kPiece * element_bytes, 1, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t start = first + piece * kPiece, stop = n - start < kPiece ? n : start + kPiece;
        double lanes[kLanes] = {};
        for (int64_t i = start; i < stop; ++i) lanes[(i - start) % kLanes] += value(i);
        sums[piece] = 0.0;
        for (double lane : lanes) sums[piece] += lane;
      }
    });
    for (int64_t piece = 0; piece < pieces; ++piece) sum += sums[piece];
  }
  return sum;
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_SUM_H_
