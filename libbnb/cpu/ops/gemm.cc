// SPDX-License-Identifier: MIT
// Products with quantized weights on the CPU: the first method of the table that fits.
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {

bnb_status gemm_4bit(const Gemm4bitArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.m == 0 || args.n == 0) return BNB_OK;
  const Gemm4bitMethod *method = kernels->gemm_4bit;
  while (!method->fits(args)) ++method;
  const int threads = bnb_get_num_threads();
  const ProductPlan plan = method->plan(args, threads);

  Gemm4bitKernelArgs shared;
  static_cast<Gemm4bitArgs &>(shared) = args;
  shared.unit_columns = plan.unit_columns;
  const auto with_memory = [&](char *packed, char *scratch) {
    Gemm4bitKernelArgs own = shared;
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

}  // namespace bnb::cpu
