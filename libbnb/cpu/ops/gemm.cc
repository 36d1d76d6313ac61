// SPDX-License-Identifier: MIT
// Products with quantized weights on the CPU: the first method of the table that fits.
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {
namespace {

bnb_status multiply(const GemmArgs &args, const GemmMethod *Kernels::*product) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  return multiply_by_method(kernels->*product, args);
}

}  // namespace

bnb_status gemm_4bit(const GemmArgs &args, Queue) { return multiply(args, &Kernels::gemm_4bit); }
bnb_status gemm_fp8(const GemmArgs &args, Queue) { return multiply(args, &Kernels::gemm_fp8); }

// MXFP8 are FP8 codes with another kind of scales.
bnb_status gemm_mx(const GemmArgs &args, Queue) {
  if (args.quant_type == BNB_MXFP4 || args.quant_type == BNB_NVFP4) return multiply(args, &Kernels::gemm_e2m1);
  GemmArgs of_fp8 = args;
  of_fp8.quant_type = args.quant_type == BNB_MXFP8_E4M3FN ? BNB_FP8_E4M3FN : BNB_FP8_E5M2;
  return multiply(of_fp8, &Kernels::gemm_fp8);
}

}  // namespace bnb::cpu
