// SPDX-License-Identifier: MIT
// Products with FP8 and MXFP8 weights.
#include "gpu/gemm_few.h"
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_plain.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

template <typename Codec>
constexpr GemmMethod kMethods[] = {
    {"few rows, matrix", fits_matrix_few_fp8, multiply_matrix_few_fp8},  // fewer instructions per weight
    {"many rows, Hopper", fits_hopper_fp8, multiply_hopper_fp8},  // twice the rate of the next one
    {"many rows, matrix", fits_matrix_many_fp8, multiply_matrix_many_fp8},
    {"few rows", few_rows, multiply_few_rows<Codec>},  // reads every code once
    {"plain", any_shape, multiply_any_shape<Codec>},
};

}  // namespace

bnb_status gemm_fp8(const GemmArgs &args, Queue queue) {
  return has_e4m3_codes(args) ? multiply_by(kMethods<E4M3Codes>, args, queue) : multiply_by(kMethods<E5M2Codes>, args, queue);
}

}  // namespace bnb::gpu
