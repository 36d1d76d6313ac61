// SPDX-License-Identifier: MIT
// Products with FP8 and MXFP8 weights by matrix instructions.
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_matrix_many.h"

namespace bnb::gpu {
namespace {

// Calls body(tag, pairs, codes) with the codes that a lane takes of a stretch, which is in one block.
template <typename Body>
bnb_status with_codes(const GemmArgs &args, Body &&body) {
  const auto with_dtype = [&](auto tag) {
    using Tag = decltype(tag);
    const auto with_pairs = [&](auto pairs) {
      return args.blocksize % 64 == 0 ? body(tag, pairs, Constant<16>{}) : body(tag, pairs, Constant<8>{});
    };
    return has_e4m3_codes(args) ? with_pairs(BytePairs<Tag, true>{}) : with_pairs(BytePairs<Tag, false>{});
  };
  return args.dtype == DType::kF16 ? with_dtype(F16{}) : with_dtype(BF16{});
}

}  // namespace

bool fits_matrix_few_fp8(const GemmArgs &args, const Queue &queue) { return few_rows_matrix(args, queue, 32); }
bnb_status multiply_matrix_few_fp8(const GemmArgs &args, const Queue &queue) {
  return with_codes(args, [&](auto tag, auto pairs, auto codes) {
    return multiply_matrix_few_rows<decltype(tag), decltype(pairs), decltype(codes)::kValue>(args, queue);
  });
}

bool fits_matrix_many_fp8(const GemmArgs &args, const Queue &queue) { return many_rows_matrix(args, queue, 32); }
bnb_status multiply_matrix_many_fp8(const GemmArgs &args, const Queue &queue) {
  return with_codes(args, [&](auto tag, auto pairs, auto codes) {
    return multiply_matrix_many_rows<decltype(tag), decltype(pairs), decltype(codes)::kValue>(args, queue);
  });
}

}  // namespace bnb::gpu
