// SPDX-License-Identifier: MIT
// Sections and pieces of sums (core/sums.h says in which order).
#ifndef BNB_CPU_KERNELS_SUM_SQUARES_H_
#define BNB_CPU_KERNELS_SUM_SQUARES_H_

#include "cpu/simd/sums.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// sums[section] for sections [begin, end) of n elements; piece_sum(first, last) gives the sum of one piece.
template <typename PieceSum>
BNB_INLINE void sum_sections(int64_t n, double *sums, int64_t begin, int64_t end, const PieceSum &piece_sum) {
  for (int64_t section = begin; section < end; ++section) {
    const int64_t section_end = n / kSumSection > section ? (section + 1) * kSumSection : n;
    double sum = 0.0;
    for (int64_t first = section * kSumSection; first < section_end; first += kSumPiece) {
      sum += piece_sum(first, section_end - first < kSumPiece ? section_end : first + kSumPiece);
    }
    sums[section] = sum;
  }
}

// The lanes of p[0, count), at most a piece, each with the sum of what `add` adds of an element to it.
template <typename Tag, typename Add>
BNB_INLINE LaneSums sum_lanes(const char *p, int64_t count, const Add &add) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  LaneSums sums = no_sums();
  Floats x[kSumVectors];
  int64_t i = 0;
  for (; i + kSumLanes <= count; i += kSumLanes) {
    for (int j = 0; j < kSumVectors; ++j) x[j] = load<Tag>(p + (i + j * kLanes) * kSize);
    add(sums, x);
  }
  if (i < count) {
    for (int j = 0; j < kSumVectors; ++j, i += kLanes) {
      const int64_t left = count - i < kLanes ? count - i : kLanes;
      x[j] = left > 0 ? load_some<Tag>(p + i * kSize, left) : splat(0.0f);
    }
    add(sums, x);
  }
  return sums;
}

// The sum of squares of p[0, count), at most a piece.
template <typename Tag>
BNB_INLINE double sum_piece(const char *p, int64_t count) {
  return total(sum_lanes<Tag>(p, count, Squares{}));
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_SUM_SQUARES_H_
