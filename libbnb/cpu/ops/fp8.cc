// SPDX-License-Identifier: MIT
// FP8 quantization on the CPU.
#include "cpu/ops/ops.h"

namespace bnb::cpu {

bnb_status quantize_fp8(const QuantizeFp8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(block_count(args.n, args.blocksize), args.blocksize * (float_size(args.dtype) + 1), 1,
               [&](int64_t begin, int64_t end) { kernels->quantize_fp8(args, begin, end); });
  return BNB_OK;
}

bnb_status dequantize_fp8(const DequantizeFp8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.n, float_size(args.dtype) + 1, piece_of(args.blocksize),
               [&](int64_t begin, int64_t end) { kernels->dequantize_fp8(args, begin, end); });
  return BNB_OK;
}

}  // namespace bnb::cpu
