// SPDX-License-Identifier: MIT
// Products with quantized weights on the CPU: the first method of the table that fits.
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {
namespace {

bnb_status multiply(const GemmArgs &args, const GemmMethod *Kernels::*product) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.m == 0 || args.n == 0) return BNB_OK;
  const GemmMethod *method = kernels->*product;
  while (!method->fits(args)) ++method;
  const int threads = bnb_get_num_threads();
  const ProductPlan plan = method->plan(args, threads);

  GemmKernelArgs shared;
  static_cast<GemmArgs &>(shared) = args;
  shared.unit_columns = plan.unit_columns;
  const auto with_memory = [&](char *packed, char *scratch) {
    GemmKernelArgs own = shared;
    own.packed = packed;
    own.scratch = scratch;
    return own;
  };
  return run_product(
      plan, threads,
      [&](char *packed, int64_t begin, int64_t end) { method->pack(with_memory(packed, nullptr), begin, end); },
      [&](char *packed, char *scratch, int64_t begin, int64_t end) {
        method->multiply(with_memory(packed, scratch), begin, end);
      });
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
