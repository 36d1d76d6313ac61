// SPDX-License-Identifier: MIT
// Sums over arrays in the order of core/sums.h. A section is the work of a block of kSectionThreads: four threads for each
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

// The running thread's lanes: of squares, of magnitudes, of the elements themselves.
struct SquareLanes {
  double at[kFour] = {};

  BNB_DEVICE_METHOD void add(const float *x) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) at[j] = fma(double(x[j]), double(x[j]), at[j]);  // the square is exact either way
  }
};

struct MagnitudeLanes {
  double at[kFour] = {};

  BNB_DEVICE_METHOD void add(const float *x) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) at[j] += double(fabsf(x[j]));
  }
};
struct ValueLanes {
  double at[kFour] = {};

  BNB_DEVICE_METHOD void add(const float *x) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) at[j] += double(x[j]);
  }
};

// Adds what the thread's lanes have of elements first .. last - 1, which are a piece or what there is of one; the lane of the first of
// them is 4 * turn. Several loads are on their way at once.
template <typename Tag, typename Lanes>
BNB_DEVICE void add_piece(const void *array, int64_t first, int64_t last, int turn, Lanes *lanes) {
  constexpr int kAhead = 8;
  for (int64_t i = first + turn * kFour; i < last; i += kAhead * kSumLanes) {
    RawFour raw[kAhead];
    BNB_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      const int64_t at = i + k * kSumLanes;
      raw[k] = load_four(Tag::kDType, array, at, count_of_four(last, at));
    }
    BNB_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      float x[kFour];
      widen_four(Tag::kDType, raw[k], x);
      lanes->add(x);
    }
  }
}

// Of a piece, its lanes added in order: for all of its four threads; the warp takes part as a whole.
template <typename Lanes>
BNB_DEVICE double piece_sum(const Lanes &lanes) {
  const int first = int(lane_index()) / kPieceThreads * kPieceThreads;
  double piece = 0.0;
  for (int i = 0; i < kPieceThreads; ++i) {
    double mine = piece;
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) mine += lanes.at[j];
    piece = shuffle(mine, first + i);
  }
  return piece;
}

// Of a section: all threads take part, and thread 0 gets the sum. pieces: shared, kSectionPieces.
BNB_DEVICE double section_sum(const SquareLanes &lanes, double *pieces) {
  const double piece = piece_sum(lanes);
  if (thread_index() % kPieceThreads == 0) pieces[thread_index() / kPieceThreads] = piece;
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
