// SPDX-License-Identifier: MIT
// How every blockwise quantizer is cut: the scales of some blocks, then their codes while the elements are still in the cache.
#ifndef BNB_CPU_OPS_QUANTIZE_H_
#define BNB_CPU_OPS_QUANTIZE_H_

#include "cpu/ops/ops.h"
#include "cpu/together.h"

namespace bnb::cpu {

// A block above this is cut among the threads, each half on its own.
inline constexpr int64_t kLargeBlock = 64 << 10;

// Writes the scale of one block, on all threads.
void large_absmax(const Kernels &kernels, const AbsmaxArgs &args, int64_t block);

// The same for a mean.
void large_absmean(const Kernels &kernels, const AbsmeanArgs &args, int64_t block);

struct BlockCut {
  int64_t n, blocksize;
  int64_t element_bytes;  // what an element costs, in bytes read and written
  int64_t multiple;       // ranges of elements begin at a multiple of so many blocks
};

// Calls write_scales(first, last) for ranges of blocks, or write_large_scale(block) for each of large ones, and encode(begin, end) on
// ranges of elements whose scales are there; begin is a multiple of cut.multiple blocks or of kElementsPerPiece.
template <typename LargeScale, typename Scales, typename Encode>
void quantize_in_blocks(const BlockCut &cut, const LargeScale &write_large_scale, const Scales &write_scales, const Encode &encode) {
  const int64_t blocks = block_count(cut.n, cut.blocksize), block_elements = cut.blocksize < cut.n ? cut.blocksize : cut.n;
  if (block_elements > kLargeBlock) {
    for (int64_t block = 0; block < blocks; ++block) write_large_scale(block);
    parallel_for(cut.n, cut.element_bytes, kElementsPerPiece, encode);
    return;
  }
  const int64_t fitting = cut.blocksize < kElementsTogether ? kElementsTogether / cut.blocksize : 1;
  const int64_t together = ceil_div(fitting, cut.multiple) * cut.multiple;
  parallel_for(blocks, block_elements * cut.element_bytes, cut.multiple, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += together) {
      const int64_t last = end - first < together ? end : first + together;
      write_scales(first, last);
      encode(first * cut.blocksize, last < blocks ? last * cut.blocksize : cut.n);
    }
  });
}

// The same for formats that divide by absmax: writes args.absmax.
template <typename Encode>
void quantize_in_blocks(const Kernels &kernels, const AbsmaxArgs &args, const Encode &encode) {
  quantize_in_blocks(
      BlockCut{args.n, args.blocksize, float_size(args.dtype) + 1, 1},
      [&](int64_t block) { large_absmax(kernels, args, block); },
      [&](int64_t first, int64_t last) { kernels.absmax(args, first, last); }, encode);
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_QUANTIZE_H_
