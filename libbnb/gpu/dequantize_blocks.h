// SPDX-License-Identifier: MIT
// How every format with a scale per block is dequantized: out[i] = value of code i * scale of its block. EXACT.
//
// A format is a class Decoder with
//   Args, Shared                          what a launch gets; what a block keeps in shared memory
//   Decoder(const Args &, Shared &)       every thread; fills shared memory, the kernel's barrier comes after
//   read(i, count, x)                     values of kDecodeItems codes, the first being element i; `count` of them exist
#ifndef BNB_GPU_DEQUANTIZE_BLOCKS_H_
#define BNB_GPU_DEQUANTIZE_BLOCKS_H_

#include <type_traits>

#include "gpu/launch.h"
#include "gpu/scales.h"

namespace bnb::gpu {

// Eight results of 16 bits are one store of 16 bytes, and those of a warp lie side by side.
constexpr int kDecodeItems = 8;
constexpr int kDecodeThreads = 256;
constexpr int kDecodeTile = kDecodeItems * kDecodeThreads;

// Scales that are fp32 numbers and nothing else.
struct PlainScales {
  const void *scale;
  BNB_DEVICE_METHOD float at(int64_t block) const { return load<float>(scale, block); }
};

// What tells the scales of blocks, by at().
template <typename AnyScales>
BNB_DEVICE const AnyScales &reader_of(const AnyScales &scales) { return scales; }
BNB_DEVICE ScaleReader reader_of(const Scales &scales) { return ScaleReader(scales); }

template <typename Tag, typename Decoder, typename AnyScales>
BNB_KERNEL void BNB_THREADS(kDecodeThreads)
    dequantize_any(typename Decoder::Args more, AnyScales all_scales, Divisor blocksize, int64_t n, void *out) {
  BNB_SHARED typename Decoder::Shared shared;
  const Decoder decoder(more, shared);
  const auto &scales = reader_of(all_scales);
  barrier();
  for (int64_t tile = grid_index(); tile * kDecodeTile < n; tile += grid_count()) {
    const int64_t i = tile * kDecodeTile + int64_t(thread_index()) * kDecodeItems;
    if (i >= n) continue;
    int64_t block = blocksize.of(i);
    const int64_t end = (block + 1) * blocksize.value;
    float scale = scales.at(block);  // on its way while codes are waited for
    float x[kDecodeItems];
    decoder.read(i, n - i, x);
    if (end - i >= kDecodeItems || end >= n) {
      BNB_UNROLL
      for (int j = 0; j < kDecodeItems; ++j) x[j] *= scale;
    } else {
      int64_t left = end - i;
      BNB_UNROLL
      for (int j = 0; j < kDecodeItems; ++j) {
        if (j == left && i + j < n) {
          scale = scales.at(++block);
          left += blocksize.value;
        }
        x[j] *= scale;
      }
    }
    store_floats<Tag, kDecodeItems>(out, i, n - i, x);
  }
}

template <typename Tag, typename Decoder, typename AnyScales>
bnb_status dequantize_blocks(const typename Decoder::Args &more, const AnyScales &scales, int64_t blocksize, int64_t n, void *out,
                             const Queue &queue) {
  if constexpr (std::is_same_v<AnyScales, AbsmaxView>) {
    return dequantize_blocks<Tag, Decoder>(more, Scales(scales), blocksize, n, out, queue);
  } else {
    constexpr int kPerMultiprocessor = 8;
    const Grid grid{blocks_for(queue, ceil_div(n, kDecodeTile), kPerMultiprocessor), kDecodeThreads};
    return launch(dequantize_any<Tag, Decoder, AnyScales>, grid, queue, more, scales, Divisor(blocksize), n, out);
  }
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_DEQUANTIZE_BLOCKS_H_
