// SPDX-License-Identifier: MIT
// NF4 and FP4 quantization on the CPU.
#include "cpu/ops/quantize.h"

namespace bnb::cpu {

bnb_status quantize_4bit(const Quantize4bitArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  for (int64_t i = ceil_div(args.n, 2); i < args.out_bytes; ++i) args.out[i] = 0;  // less than one item
  quantize_in_blocks(*kernels, {args.dtype, args.a, args.n, args.blocksize, 0.0f, 1.0f, args.absmax},
                     [&](int64_t begin, int64_t end) { kernels->quantize_4bit(args, begin, end); });
  return BNB_OK;
}

bnb_status dequantize_4bit(const Dequantize4bitArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.n, float_size(args.dtype), piece_of(args.blocksize),
               [&](int64_t begin, int64_t end) { kernels->dequantize_4bit(args, begin, end); });
  return BNB_OK;
}

}  // namespace bnb::cpu
