// SPDX-License-Identifier: MIT
// Sums of squares in the order of core/sums.h, in float64: a section is the work of a threadgroup, four threads for each of its pieces,
// each of which has four lanes and so reads four neighbouring elements at once.
#ifndef BNB_METAL_KERNELS_SECTION_SUMS_H_
#define BNB_METAL_KERNELS_SECTION_SUMS_H_

#include "metal/kernels/args.h"
#include "metal/kernels/float64.h"
#include "metal/kernels/floats.h"

namespace bnb {
namespace kernels {

enum : int {
  kSumLanes = 16,
  kSumPiece = 1024,
  kSectionPieces = 64,
  kSumSection = kSumPiece * kSectionPieces,
  kFour = 4,
  kPieceThreads = kSumLanes / kFour,
  kSectionThreads = kSectionPieces * kPieceThreads,
  kSectionSteps = kSumPiece / kSumLanes,
  kSectionLanes = kSectionPieces * kSumLanes
};

// The first of the four elements that a thread reads at a step, in the tensor.
inline long section_element(long section, int step, uint index) {
  return section * kSumSection + long(index) / kPieceThreads * kSumPiece + step * kSumLanes + long(index) % kPieceThreads * kFour;
}

// A thread's lanes.
struct SquareLanes {
  Float64 at[kFour];

  inline void clear() {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) at[j] = 0;
  }
  inline void add(int j, float x) { at[j] = f64_add_positive(at[j], f64_square(x)); }
};

// Of a section: all threads take part, and thread 0 gets the sum. shared: kSectionLanes.
inline Float64 section_sum(thread const SquareLanes &lanes, threadgroup ulong *shared, uint index) {
  BNB_UNROLL
  for (int j = 0; j < kFour; ++j) shared[index * kFour + j] = lanes.at[j];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  Float64 sum = 0;
  if (index < uint(kSectionPieces)) {
    for (int lane = 0; lane < kSumLanes; ++lane) sum = f64_add_positive(sum, shared[index * kSumLanes + lane]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // lanes are read before pieces are written over them
  if (index < uint(kSectionPieces)) shared[index] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0;
  if (index == 0) {
    for (int piece = 0; piece < kSectionPieces; ++piece) sum = f64_add_positive(sum, shared[piece]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next section's
  return sum;
}

inline Float64 ordered_sum(device const ulong *x, long count) {
  Float64 sum = 0;
  for (long i = 0; i < count; ++i) sum = f64_add_positive(sum, x[i]);
  return sum;
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_SECTION_SUMS_H_
