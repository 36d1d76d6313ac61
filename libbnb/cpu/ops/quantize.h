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

// Writes args.absmax and calls encode(begin, end) on ranges of elements whose scales are there; begin is a multiple of the
// block size or of kElementsPerPiece from the start of a block.
template <typename Encode>
void quantize_in_blocks(const Kernels &kernels, const AbsmaxArgs &args, const Encode &encode) {
  const int64_t blocks = block_count(args.n, args.blocksize), element_bytes = float_size(args.dtype) + 1;
  const int64_t block_elements = args.blocksize < args.n ? args.blocksize : args.n;
  if (block_elements > kLargeBlock) {
    for (int64_t block = 0; block < blocks; ++block) large_absmax(kernels, args, block);
    parallel_for(args.n, element_bytes, kElementsPerPiece, encode);
    return;
  }
  const int64_t together = args.blocksize < kElementsTogether ? kElementsTogether / args.blocksize : 1;
  parallel_for(blocks, block_elements * element_bytes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += together) {
      const int64_t last = end - first < together ? end : first + together;
      kernels.absmax(args, first, last);
      encode(first * args.blocksize, last < blocks ? last * args.blocksize : args.n);
    }
  });
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_QUANTIZE_H_
