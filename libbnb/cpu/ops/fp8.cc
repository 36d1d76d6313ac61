// SPDX-License-Identifier: MIT
// FP8 quantization on the CPU.
#include "cpu/ops/quantize.h"
#include "formats/fp8.h"

namespace bnb::cpu {

bnb_status quantize_fp8(const QuantizeFp8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const float largest =
      args.quant_type == BNB_FP8_E4M3FN ? formats::fp8::E4M3FN::max_finite() : formats::fp8::E5M2::max_finite();
  quantize_in_blocks(*kernels, {args.dtype, args.a, args.n, args.blocksize, 0.0f, largest, args.scale},
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
