// SPDX-License-Identifier: MIT
// Products with NF4, FP4, MXFP4 and NVFP4 weights by matrix instructions, for few rows.
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_matrix_few.h"

namespace bnb::gpu {
namespace {

template <typename Tag>
bnb_status multiply(const GemmArgs &args, const Queue &queue) {
  if (args.blocksize % 64 == 0) return multiply_matrix_few_rows<Tag, NibblePairs<Tag>, 16>(args, queue);
  if (args.blocksize % 32 == 0) return multiply_matrix_few_rows<Tag, NibblePairs<Tag>, 8>(args, queue);
  return multiply_matrix_few_rows<Tag, NibblePairs<Tag>, 4>(args, queue);
}

}  // namespace

bool few_rows_matrix_4bit(const GemmArgs &args, const Queue &queue) { return few_rows_matrix(args, queue, 16); }

bnb_status multiply_few_rows_matrix_4bit(const GemmArgs &args, const Queue &queue) {
  return args.dtype == DType::kF16 ? multiply<F16>(args, queue) : multiply<BF16>(args, queue);
}

}  // namespace bnb::gpu
