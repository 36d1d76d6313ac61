// SPDX-License-Identifier: MIT
// Products with NF4, FP4, MXFP4 and NVFP4 weights by matrix instructions.
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_matrix_many.h"

namespace bnb::gpu {
namespace {

// Calls body(tag, codes) with the codes that a lane takes of a stretch, which is in one block.
template <typename Body>
bnb_status with_codes(const GemmArgs &args, Body &&body) {
  const auto with_dtype = [&](auto codes) { return args.dtype == DType::kF16 ? body(F16{}, codes) : body(BF16{}, codes); };
  if (args.blocksize % 64 == 0) return with_dtype(Constant<16>{});
  if (args.blocksize % 32 == 0) return with_dtype(Constant<8>{});
  return with_dtype(Constant<4>{});
}

}  // namespace

bool fits_matrix_few_4bit(const GemmArgs &args, const Queue &queue) { return few_rows_matrix(args, queue, 16); }
bnb_status multiply_matrix_few_4bit(const GemmArgs &args, const Queue &queue) {
  return with_codes(args, [&](auto tag, auto codes) {
    using Tag = decltype(tag);
    return multiply_matrix_few_rows<Tag, NibblePairs<Tag>, decltype(codes)::kValue>(args, queue);
  });
}

bool fits_matrix_many_4bit(const GemmArgs &args, const Queue &queue) { return many_rows_matrix(args, queue, 16); }
bnb_status multiply_matrix_many_4bit(const GemmArgs &args, const Queue &queue) {
  return with_codes(args, [&](auto tag, auto codes) {
    using Tag = decltype(tag);
    return multiply_matrix_many_rows<Tag, NibblePairs<Tag>, decltype(codes)::kValue>(args, queue);
  });
}

}  // namespace bnb::gpu
