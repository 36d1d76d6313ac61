// SPDX-License-Identifier: MIT
// The mean of |a| of each block, summed in float64 in the order of core/sums.h: four threads take a piece, each of them four lanes.
#ifndef BNB_GPU_ABSMEAN_H_
#define BNB_GPU_ABSMEAN_H_

#include "core/sums.h"
#include "gpu/launch.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {

constexpr int kMeanThreads = kSectionThreads;

struct AbsmeanArgs {
  const void *a;  // [n]
  int64_t n, blocksize;
  void *mean;  // fp32 [nb]
};

// |a| of elements [first, last), at most a piece, for its four threads; all threads of the warp take part.
template <typename Tag>
BNB_DEVICE double piece_of_magnitudes(const void *a, int64_t first, int64_t last) {
  MagnitudeLanes lanes;
  add_piece<Tag>(a, first, last, int(thread_index()) % kPieceThreads, &lanes);
  for (int half = kPieceThreads / 2; half > 0; half /= 2) {  // the upper half of the lanes to the lower one, until one is left
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) lanes.at[j] += shuffle_xor(lanes.at[j], half);
  }
  return (lanes.at[0] + lanes.at[2]) + (lanes.at[1] + lanes.at[3]);
}

// Blocks of a section or less: a block of threads takes as many as its threads have pieces for.
template <typename Tag>
BNB_KERNEL void BNB_THREADS(kMeanThreads) mean_of_blocks(AbsmeanArgs args, int64_t blocks, int pieces_of_block) {
  BNB_SHARED double pieces[kSectionPieces];
  const int at_once = kSectionPieces / pieces_of_block;
  const int piece = int(thread_index()) / kPieceThreads, slot = piece / pieces_of_block, place = piece % pieces_of_block;
  for (int64_t first = int64_t(grid_index()) * at_once; first < blocks; first += int64_t(grid_count()) * at_once) {
    const int64_t block = first + slot;
    const bool exists = slot < at_once && block < blocks;
    const int64_t begin = exists ? block * args.blocksize : args.n;
    const int64_t end = args.n - begin < args.blocksize ? args.n : begin + args.blocksize;
    const int64_t from = end - begin < place * kSumPiece ? end : begin + place * kSumPiece;
    const double of_piece = piece_of_magnitudes<Tag>(args.a, from, end - from < kSumPiece ? end : from + kSumPiece);
    if (thread_index() % kPieceThreads == 0) pieces[piece] = of_piece;
    barrier();
    if (exists && place == 0 && thread_index() % kPieceThreads == 0) {
      double sum = 0.0;
      for (int i = 0; i < pieces_of_block; ++i) sum += pieces[piece + i];
      store<float>(args.mean, block, mean_of(sum, end - begin));
    }
    barrier();  // before the next blocks'
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
    const int piece = int(thread_index()) / kPieceThreads;
    const int64_t from = first + piece * kSumPiece < end ? first + piece * kSumPiece : end;
    const double of_piece = piece_of_magnitudes<Tag>(args.a, from, end - from < kSumPiece ? end : from + kSumPiece);
    if (thread_index() % kPieceThreads == 0) pieces[piece] = of_piece;
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
  const int64_t block_elements = args.blocksize < args.n ? args.blocksize : args.n;
  if (block_elements <= kSumSection) {
    const int pieces_of_block = int(ceil_div(block_elements, kSumPiece));
    const int64_t rounds = ceil_div(blocks, kSectionPieces / pieces_of_block);
    return launch(mean_of_blocks<Tag>, {blocks_for(queue, rounds, kPerMultiprocessor), kMeanThreads}, queue, args, blocks,
                  pieces_of_block);
  }
  const int64_t sections_of_block = ceil_div(block_elements, kSumSection);
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
