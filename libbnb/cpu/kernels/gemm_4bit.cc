// SPDX-License-Identifier: MIT
// out = A @ dequantize(B)^T + bias with 4-bit weights: which method for which shape.
#include "cpu/kernels/gemm_4bit_few.h"
#include "cpu/kernels/gemm_4bit_panel.h"
#if defined(BNB_HAS_BF16_PRODUCTS)
#include "cpu/kernels/gemm_4bit_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

bool is_few(const Gemm4bitArgs &args) { return args.m <= kFewRows && rows_are_blocks(args); }
bool is_any(const Gemm4bitArgs &) { return true; }

}  // namespace

const Gemm4bitMethod kGemm4bitMethods[] = {
#if defined(BNB_HAS_BF16_PRODUCTS)
    {"few rows, bf16 pairs", is_few_bf16, plan_few<BF16Lookup>, pack_few<BF16Lookup>, multiply_few<BF16Lookup>},
    {"tiles of bf16", fits_tiles, plan_tiles, pack_tiles, multiply_tile_panels},
#endif
    {"few rows, fp32", is_few, plan_few<FloatLookup>, pack_few<FloatLookup>, multiply_few<FloatLookup>},
    {"panels, fp32", is_any, plan_panel, pack_panel, multiply_panel},
    {},
};

}  // namespace bnb::cpu::BNB_ISA
