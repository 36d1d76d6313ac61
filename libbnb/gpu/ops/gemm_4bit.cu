// SPDX-License-Identifier: MIT
// Products with NF4, FP4, MXFP4 and NVFP4 weights.
#include "gpu/gemm_few.h"
#include "gpu/gemm_matrix.h"
#include "gpu/gemm_plain.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

constexpr GemmMethod kMethods[] = {
    {"few rows, matrix", fits_matrix_few_4bit, multiply_matrix_few_4bit},  // fewer instructions per weight
    {"many rows, Hopper", fits_hopper_4bit, multiply_hopper_4bit},  // twice the rate of the next one
    {"many rows, matrix", fits_matrix_many_4bit, multiply_matrix_many_4bit},
    {"few rows", few_rows, multiply_few_rows<Nibbles>},  // reads every code once
    {"plain", any_shape, multiply_any_shape<Nibbles>},
};

}  // namespace

bnb_status gemm_4bit(const GemmArgs &args, Queue queue) { return multiply_by(kMethods, args, queue); }

}  // namespace bnb::gpu
