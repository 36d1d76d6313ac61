// SPDX-License-Identifier: MIT
// Products with FP8 and MXFP8 weights.
#include "gpu/gemm_few.h"
#include "gpu/gemm_plain.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

template <typename Codec>
constexpr GemmMethod kMethods[] = {
    {"few rows", few_rows, multiply_few_rows<Codec>},    // reads every code once
    {"plain", any_shape, multiply_any_shape<Codec>},
};

}  // namespace

bnb_status gemm_fp8(const GemmArgs &args, Queue queue) {
  const bool e4m3 = args.quant_type == BNB_FP8_E4M3FN || args.quant_type == BNB_MXFP8_E4M3FN;
  return e4m3 ? multiply_by(kMethods<E4M3Codes>, args, queue) : multiply_by(kMethods<E5M2Codes>, args, queue);
}

}  // namespace bnb::gpu
