// SPDX-License-Identifier: MIT
// Products with quantized weights on Hopper, of all formats.
#include "cuda/gemm_sm90.h"

#include "gpu/gemm_matrix.h"

namespace bnb::gpu {
namespace {

// Calls body(tag).
template <typename Body>
bnb_status with_dtype(const GemmArgs &args, Body &&body) {
  return args.dtype == DType::kF16 ? body(F16{}) : body(BF16{});
}

template <typename Tag, typename Pairs>
bnb_status multiply_fp8(const GemmArgs &args, const Queue &queue) {
  if (args.blocksize % 64 == 0) return multiply_many_rows_hopper<Tag, Pairs, 4>(args, queue);
  return multiply_many_rows_hopper<Tag, Pairs, 2>(args, queue);
}

}  // namespace

bool fits_hopper_4bit(const GemmArgs &args, const Queue &queue) { return many_rows_hopper(args, queue, 16); }
bnb_status multiply_hopper_4bit(const GemmArgs &args, const Queue &queue) {
  return with_dtype(args, [&](auto tag) {
    using Tag = decltype(tag);
    if (args.blocksize % 64 == 0) return multiply_many_rows_hopper<Tag, NibblePairs<Tag>, 4>(args, queue);
    if (args.blocksize % 32 == 0) return multiply_many_rows_hopper<Tag, NibblePairs<Tag>, 2>(args, queue);
    return multiply_many_rows_hopper<Tag, NibblePairs<Tag>, 1>(args, queue);
  });
}

bool fits_hopper_fp8(const GemmArgs &args, const Queue &queue) { return many_rows_hopper(args, queue, 32); }
bnb_status multiply_hopper_fp8(const GemmArgs &args, const Queue &queue) {
  return with_dtype(args, [&](auto tag) {
    using Tag = decltype(tag);
    return has_e4m3_codes(args) ? multiply_fp8<Tag, BytePairs<Tag, true>>(args, queue)
                                : multiply_fp8<Tag, BytePairs<Tag, false>>(args, queue);
  });
}

}  // namespace bnb::gpu
