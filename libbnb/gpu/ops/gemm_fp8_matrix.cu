// SPDX-License-Identifier: MIT
// Products with FP8 and MXFP8 weights by matrix instructions, for few rows.
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_matrix_few.h"

namespace bnb::gpu {
namespace {

template <typename Tag, bool kE4M3>
bnb_status multiply(const GemmArgs &args, const Queue &queue) {
  if (args.blocksize % 64 == 0) return multiply_matrix_few_rows<Tag, BytePairs<Tag, kE4M3>, 16>(args, queue);
  return multiply_matrix_few_rows<Tag, BytePairs<Tag, kE4M3>, 8>(args, queue);
}

}  // namespace

bool few_rows_matrix_fp8(const GemmArgs &args, const Queue &queue) { return few_rows_matrix(args, queue, 32); }

bnb_status multiply_few_rows_matrix_fp8(const GemmArgs &args, const Queue &queue) {
  const bool half = args.dtype == DType::kF16;
  if (has_e4m3_codes(args)) return half ? multiply<F16, true>(args, queue) : multiply<BF16, true>(args, queue);
  return half ? multiply<F16, false>(args, queue) : multiply<BF16, false>(args, queue);
}

}  // namespace bnb::gpu
