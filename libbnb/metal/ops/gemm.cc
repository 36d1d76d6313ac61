// SPDX-License-Identifier: MIT
// Products with quantized weights on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kThreads = 256, kTileSide = 64;  // as in the kernel

uint32_t weights_of(bnb_quant_type type) {
  switch (type) {
    case BNB_NF4: return kernels::kWeightsNf4;
    case BNB_FP4: return kernels::kWeightsFp4;
    case BNB_MXFP4:
    case BNB_NVFP4: return kernels::kWeightsE2M1;
    case BNB_FP8_E5M2:
    case BNB_MXFP8_E5M2: return kernels::kWeightsE5M2;
    default: return kernels::kWeightsE4M3FN;
  }
}

bnb_status multiply(const GemmArgs &args, const Queue &queue) {
  Commands commands(queue);
  const int64_t weights = args.n * args.k, tiles_n = ceil_div(args.n, kTileSide), tiles = tiles_n * ceil_div(args.m, kTileSide);
  const BoundScales scales = bind_scales(commands, args.scales, block_count(weights, args.blocksize));
  kernels::GemmArgs kernel_args{};
  kernel_args.m = args.m;
  kernel_args.n = args.n;
  kernel_args.k = args.k;
  kernel_args.a_stride = args.a_stride;
  kernel_args.out_stride = args.out_stride;
  kernel_args.tiles_n = tiles_n;
  kernel_args.tiles = tiles;
  kernel_args.blocksize = kernels::divisor(args.blocksize, weights);
  kernel_args.scales = scales.args;
  kernel_args.bias = bias_args(commands, args.bias_dtype, args.bias);
  kernel_args.weights = weights_of(args.quant_type);
  kernel_args.low_first = args.quant_type == BNB_MXFP4 || args.quant_type == BNB_NVFP4;
  const uint64_t bytes = args.dtype == DType::kF32 ? 4 : 2;
  kernel_args.aligned_a = commands.aligned(bytes, args.a);
  kernel_args.aligned_out = commands.aligned(bytes, args.out);
  commands.run({"gemm", "multiply_any", args.dtype}, {commands.groups_for(tiles), int(kThreads)}, kernel_args, args.a, args.b, args.bias,
               args.out, scales.scales, scales.nested_code, scales.nested_absmax, scales.single);
  return commands.commit();
}

}  // namespace

bnb_status gemm_4bit(const GemmArgs &args, Queue queue) { return multiply(args, queue); }
bnb_status gemm_fp8(const GemmArgs &args, Queue queue) { return multiply(args, queue); }
bnb_status gemm_mx(const GemmArgs &args, Queue queue) { return multiply(args, queue); }

}  // namespace bnb::metal
