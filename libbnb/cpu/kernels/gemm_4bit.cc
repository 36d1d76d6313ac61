// SPDX-License-Identifier: MIT
// out = A @ dequantize(B)^T + bias with 4-bit weights: which method for which shape.
#include "cpu/kernels/gemm_4bit_few.h"
#include "cpu/kernels/gemm_4bit_panel.h"
#if defined(BNB_HAS_BF16_PRODUCTS)
#include "cpu/kernels/gemm_4bit_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

// Look-ups serve a few rows from registers at little more than the price of one; then it pays to decode weights into the cache.
template <int kRows>
bool is_few(const Gemm4bitArgs &args) {
  return args.m <= kRows && rows_are_blocks(args);
}
template <int kRows>
bool is_few_bf16(const Gemm4bitArgs &args) {
  return args.dtype == DType::kBF16 && is_few<kRows>(args);
}
bool is_any(const Gemm4bitArgs &) { return true; }

}  // namespace

const Gemm4bitMethod kGemm4bitMethods[] = {
#if defined(BNB_HAS_BF16_PRODUCTS)
    {"few rows, bf16 pairs", is_few_bf16<3>, plan_few<BF16Lookup>, pack_few<BF16Lookup>, multiply_few<BF16Lookup>},
    {"tiles, bf16", fits_tiles<BF16>, plan_tiles<BF16>, pack_tiles<BF16>, multiply_tile_panels<BF16>},
    {"few rows, fp32", is_few<6>, plan_few<FloatLookup>, pack_few<FloatLookup>, multiply_few<FloatLookup>},
    {"tiles, fp16", fits_tiles<F16>, plan_tiles<F16>, pack_tiles<F16>, multiply_tile_panels<F16>},
#endif
    {"few rows, fp32", is_few<kFewRows>, plan_few<FloatLookup>, pack_few<FloatLookup>, multiply_few<FloatLookup>},
    {"panels, fp32", is_any, plan_panel, pack_panel, multiply_panel},
    {},
};

}  // namespace bnb::cpu::BNB_ISA
