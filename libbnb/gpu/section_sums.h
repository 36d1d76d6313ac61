// SPDX-License-Identifier: MIT
// Sums of squares of arrays in the order of core/sums.h. A section is the work of a block of kSectionThreads: four threads for each
// of its pieces, each of which has four lanes and so reads four neighbouring elements at once, 16 elements before its next four.
#ifndef BNB_GPU_SECTION_SUMS_H_
#define BNB_GPU_SECTION_SUMS_H_

#include "core/sums.h"
#include "gpu/four.h"

namespace bnb::gpu {

constexpr int kPieceThreads = int(kSumLanes) / kFour;
constexpr int kSectionPieces = int(kSumSection / kSumPiece);
constexpr int kSectionThreads = kSectionPieces * kPieceThreads;
constexpr int kSectionSteps = int(kSumPiece / kSumLanes);  // of a thread

// The first of the four elements that the running thread reads at a step, in the tensor.
BNB_DEVICE int64_t section_element(int64_t section, int step) {
  const int thread = int(thread_index());
  return section * kSumSection + thread / kPieceThreads * int(kSumPiece) + step * int(kSumLanes) +
         thread % kPieceThreads * kFour;
}

// The running thread's lanes.
struct SquareLanes {
  double at[kFour] = {};

  BNB_DEVICE_METHOD void add(const float *x) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) at[j] = fma(double(x[j]), double(x[j]), at[j]);  // the square is exact either way
  }
};

// Of a section: all threads take part, and thread 0 gets the sum. pieces: shared, kSectionPieces.
BNB_DEVICE double section_sum(const SquareLanes &lanes, double *pieces) {
  const int turn = int(thread_index()) % kPieceThreads, first = int(lane_index()) / kPieceThreads * kPieceThreads;
  double piece = 0.0;
  for (int i = 0; i < kPieceThreads; ++i) {
    double mine = piece;
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) mine += lanes.at[j];
    piece = shuffle(mine, first + i);
  }
  if (turn == 0) pieces[thread_index() / kPieceThreads] = piece;
  barrier();
  double sum = 0.0;
  if (thread_index() == 0) {
    for (int i = 0; i < kSectionPieces; ++i) sum += pieces[i];
  }
  barrier();  // before the next section's
  return sum;
}

// x[0] + x[1] + ... in that order, for thread 0 of a block; all threads of it take part. staged: shared, one for each thread.
BNB_DEVICE double ordered_sum(const double *x, int64_t count, double *staged) {
  const int threads = int(thread_count());
  double sum = 0.0;
  for (int64_t first = 0; first < count; first += threads) {
    if (first + thread_index() < count) staged[thread_index()] = x[first + thread_index()];
    barrier();
    if (thread_index() == 0) {
      for (int i = 0; i < threads && first + i < count; ++i) sum += staged[i];
    }
    barrier();  // before the next ones come
  }
  return sum;
}

BNB_DEVICE bool is_finite(double x) {
  return (__builtin_bit_cast(uint64_t, x) & 0x7FF0000000000000u) != 0x7FF0000000000000u;
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_SECTION_SUMS_H_
