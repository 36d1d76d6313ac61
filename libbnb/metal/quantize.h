// SPDX-License-Identifier: MIT
// The host's side of kernels/quantize_blocks.h: which kernels quantize blocks of a size, and with which arguments.
#ifndef BNB_METAL_QUANTIZE_H_
#define BNB_METAL_QUANTIZE_H_

#include "metal/kernels/args.h"
#include "metal/launch.h"

namespace bnb::metal {

constexpr int64_t kItems = 16, kQuantizeThreads = 256, kTile = kItems * kQuantizeThreads;  // as in the kernels

// A format has kernels NAME_regular_* and NAME_any_* in its file.
struct BlockQuantizer {
  const char *file, *name;
  DType dtype;    // of a
  const void *a;  // [n]
  int64_t n, blocksize;
  const void *subtract;  // fp32 [1]: taken off every element first; NULL: nothing
  void *out, *scale;
  const void *code;  // what else the encoder reads, or NULL
};

// Adds the launches to the commands.
void quantize_blocks(Commands &commands, const Queue &queue, const BlockQuantizer &format);

// absmax of every block as the bits of a number, over a workspace of `blocks` words: zeros, then the largest.
void measure_absmax(Commands &commands, const BlockQuantizer &format, const Workspace &maxima);

// The kernel NAME_any_* alone: `absmax` has what scales are made from.
void encode_blocks(Commands &commands, const BlockQuantizer &format, const Workspace &absmax);

// Scales for kernels: the struct, and what is bound beside it.
struct BoundScales {
  kernels::ScaleArgs args;
  const void *scales, *nested_code, *nested_absmax, *single;
};
BoundScales bind_scales(const Commands &commands, const AbsmaxView &view, int64_t blocks);

// The host's side of kernels/dequantize_blocks.h: a format has kernels NAME_* in its file.
struct BlockDequantizer {
  const char *file, *name;
  DType dtype;  // of out
  const void *a;
  const AbsmaxView &scales;
  int64_t n, blocksize;
  void *out;         // [n]
  const void *code;  // what else the decoder reads, or NULL
};
void dequantize_blocks(Commands &commands, const BlockDequantizer &format);

// A bias of a float dtype that kernels are told, or none.
kernels::BiasArgs bias_args(const Commands &commands, DType dtype, const void *bias);

// data[0 .. bytes) = 0; `data` like any pointer of a call, or a workspace.
void clear_bytes(Commands &commands, const void *data, int64_t bytes);

}  // namespace bnb::metal

#endif  // BNB_METAL_QUANTIZE_H_
