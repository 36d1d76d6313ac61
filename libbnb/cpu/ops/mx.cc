// SPDX-License-Identifier: MIT
// MX and NVFP4 quantization on the CPU.
#include "cpu/ops/quantize.h"

namespace bnb::cpu {
namespace {

// The absmax of the tensor by what scale and element make of it together.
void write_tensor_scale(const Kernels &kernels, const QuantizeMxArgs &args) {
  if (args.n == 0) return store<float>(args.tensor_scale, 0, 0.0f);
  large_absmax(kernels, {args.dtype, args.a, args.n, args.n, 0.0f, formats::nvfp4::tensor_divisor(), args.tensor_scale},
               0);
}

}  // namespace

bnb_status quantize_mx(const QuantizeMxArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.tensor_scale) write_tensor_scale(*kernels, args);
  parallel_for(args.n / args.blocksize, args.blocksize * (float_size(args.dtype) + 1),
               kElementsPerPiece / args.blocksize,
               [&](int64_t begin, int64_t end) { kernels->quantize_mx(args, begin, end); });
  return BNB_OK;
}

bnb_status dequantize_mx(const DequantizeMxArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.n / args.blocksize, args.blocksize * (float_size(args.dtype) + 1),
               kElementsPerPiece / args.blocksize,
               [&](int64_t begin, int64_t end) { kernels->dequantize_mx(args, begin, end); });
  return BNB_OK;
}

}  // namespace bnb::cpu
