// SPDX-License-Identifier: MIT
// How codes with a scale for each block become numbers again: out[i] = value of code i * scale of its block. EXACT.
//
// A format is a struct Decoder with
//   kValues                                     how many codes there are
//   static value(code, i)                       what code i stands for; `code` is the buffer of the same name, if the format has one
//   static load(a, aligned, i, count, codes)    kItems codes, the first being that of element i; zeros past `count`
#ifndef BNB_METAL_KERNELS_DEQUANTIZE_BLOCKS_H_
#define BNB_METAL_KERNELS_DEQUANTIZE_BLOCKS_H_

#include "metal/kernels/scales.h"

namespace bnb {
namespace kernels {

enum : int { kDequantizeThreads = 256, kDequantizeTile = kItems * kDequantizeThreads };

}  // namespace kernels
}  // namespace bnb

template <typename Decoder, typename Tag>
kernel void dequantize_blocks(constant DequantizeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                              device const uchar *code [[buffer(2)]], device uchar *out [[buffer(3)]],
                              device const uchar *scales [[buffer(4)]], device const uchar *nested_code [[buffer(5)]],
                              device const uchar *nested_absmax [[buffer(6)]], device const uchar *single [[buffer(7)]],
                              uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                              uint groups [[threadgroups_per_grid]]) {
  threadgroup float values[Decoder::kValues];
  for (uint i = index; i < uint(Decoder::kValues); i += kDequantizeThreads) values[i] = Decoder::value(code, i);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Scales from = {scales, nested_code, nested_absmax, single};
  for (long tile = group; tile * kDequantizeTile < args.n; tile += groups) {
    const long i = tile * kDequantizeTile + long(index) * kItems;
    if (i >= args.n) continue;
    uchar codes[kItems];
    Decoder::load(a, args.aligned_in != 0, i, args.n - i, codes);
    float x[kItems];
    long block = quotient(i, args.blocksize), end = (block + 1) * args.blocksize.value;
    float scale = scale_at(args.scales, from, block);
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      if (i + j == end && i + j < args.n) {
        scale = scale_at(args.scales, from, ++block);
        end += args.blocksize.value;
      }
      x[j] = ieee::multiply(values[codes[j]], scale);
    }
    store_floats<Tag>(out, args.aligned_out != 0, i, args.n - i, x);
  }
}

#endif  // BNB_METAL_KERNELS_DEQUANTIZE_BLOCKS_H_
