// SPDX-License-Identifier: MIT
// The mean of |a| of each block, summed in float64 in the order of core/sums.h: half a warp takes a piece, each of its threads a lane.
#ifndef BNB_GPU_ABSMEAN_H_
#define BNB_GPU_ABSMEAN_H_

#include "core/sums.h"
#include "gpu/launch.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {

constexpr int kMeanThreads = 256;
constexpr int kPieceLanes = int(kSumLanes);
constexpr int kPiecesAtOnce = kMeanThreads / kPieceLanes;
static_assert(kSectionPieces % kPiecesAtOnce == 0, "a section is whole rounds of the block");

struct AbsmeanArgs {
  const void *a;  // [n]
  int64_t n, blocksize;
  void *mean;  // fp32 [nb]
};

// |a| of elements [first, last), at most a piece; all threads of the warp take part, each half with a piece of its own. The sum is
// every thread's.
template <typename Tag>
BNB_DEVICE double piece_of_magnitudes(const void *a, int64_t first, int64_t last) {
  double lane = 0.0;
  for (int64_t i = first + lane_index() % kPieceLanes; i < last; i += kPieceLanes) {
    lane += double(fabsf(load_float<Tag>(a, i)));
  }
  for (int half = kPieceLanes / 2; half > 0; half /= 2) lane += shuffle_xor(lane, half);
  return lane;
}

// Blocks of a piece or less: one for each half of a warp.
template <typename Tag>
BNB_KERNEL void BNB_THREADS(kMeanThreads) mean_of_pieces(AbsmeanArgs args, int64_t blocks) {
  const int64_t rounds = ceil_div(blocks, kPiecesAtOnce);
  for (int64_t round = grid_index(); round < rounds; round += grid_count()) {
    const int64_t block = round * kPiecesAtOnce + thread_index() / kPieceLanes;
    const int64_t first = block < blocks ? block * args.blocksize : args.n;
    const int64_t last = args.n - first < args.blocksize ? args.n : first + args.blocksize;
    const double sum = piece_of_magnitudes<Tag>(args.a, first, last);
    if (block < blocks && thread_index() % kPieceLanes == 0) store<float>(args.mean, block, mean_of(sum, last - first));
  }
}

// Larger ones: a section of a block is the work of a block of threads. sums: [sections of all blocks].
template <typename Tag>
BNB_KERNEL void BNB_THREADS(kMeanThreads)
    sum_block_sections(AbsmeanArgs args, int64_t sections_of_block, int64_t sections, double *sums) {
  BNB_SHARED double pieces[kSectionPieces];
  for (int64_t section = grid_index(); section < sections; section += grid_count()) {
    const int64_t block = section / sections_of_block, begin = block * args.blocksize;
    const int64_t end = args.n - begin < args.blocksize ? args.n : begin + args.blocksize;
    const int64_t first = begin + section % sections_of_block * kSumSection;
    for (int round = 0; round < kSectionPieces; round += kPiecesAtOnce) {
      const int piece = round + int(thread_index()) / kPieceLanes;
      const int64_t from = first + piece * kSumPiece < end ? first + piece * kSumPiece : end;
      const double sum = piece_of_magnitudes<Tag>(args.a, from, end - from < kSumPiece ? end : from + kSumPiece);
      if (thread_index() % kPieceLanes == 0) pieces[piece] = sum;
    }
    barrier();
    if (thread_index() == 0) {
      double sum = 0.0;
      for (int i = 0; i < kSectionPieces; ++i) sum += pieces[i];
      sums[section] = sum;
    }
    barrier();  // before the next section's
  }
}

BNB_KERNEL void BNB_THREADS(kMeanThreads) mean_of_sections(AbsmeanArgs args, int64_t sections_of_block, const double *sums) {
  BNB_SHARED double staged[kMeanThreads];
  const int64_t blocks = ceil_div(args.n, args.blocksize);
  for (int64_t block = grid_index(); block < blocks; block += grid_count()) {
    const int64_t begin = block * args.blocksize, count = args.n - begin < args.blocksize ? args.n - begin : args.blocksize;
    const double sum = ordered_sum(sums + block * sections_of_block, ceil_div(count, kSumSection), staged);
    if (thread_index() == 0) store<float>(args.mean, block, mean_of(sum, count));
  }
}

// n > 0.
template <typename Tag>
bnb_status measure_means(const AbsmeanArgs &args, const Queue &queue) {
  constexpr int kPerMultiprocessor = 8;
  const int64_t blocks = ceil_div(args.n, args.blocksize);
  if (args.blocksize <= kSumPiece || args.n <= kSumPiece) {
    const Grid grid{blocks_for(queue, ceil_div(blocks, kPiecesAtOnce), kPerMultiprocessor), kMeanThreads};
    return launch(mean_of_pieces<Tag>, grid, queue, args, blocks);
  }
  const int64_t sections_of_block = ceil_div(args.blocksize < args.n ? args.blocksize : args.n, kSumSection);
  const int64_t sections = blocks * sections_of_block;
  const Workspace sums(queue, size_t(sections) * sizeof(double));
  if (sums.status() != BNB_OK) return sums.status();
  bnb_status status = launch(sum_block_sections<Tag>, {blocks_for(queue, sections, kPerMultiprocessor), kMeanThreads}, queue, args,
                             sections_of_block, sections, static_cast<double *>(sums.data()));
  if (status != BNB_OK) return status;
  return launch(mean_of_sections, {blocks_for(queue, blocks, kPerMultiprocessor), kMeanThreads}, queue, args, sections_of_block,
                static_cast<const double *>(sums.data()));
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_ABSMEAN_H_
