// SPDX-License-Identifier: MIT
// Products of int8 activations with ternary weights: which method for which layout and shape.
#include "cpu/kernels/gemm_int8_panel.h"
#include "cpu/kernels/gemm_ternary_few.h"
#if defined(BNB_HAS_TILES)
#include "cpu/kernels/gemm_int8_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

bool is_of(const GemmTernaryArgs &args, bnb_quant_type quant_type, bool blocks) {
  return args.quant_type == quant_type && (args.blocks() > 1) == blocks;
}

// Rows for which the look-up of codes in registers is at least as fast as multiplying them from the cache.
#if defined(BNB_HAS_TILES)
constexpr int64_t kTernaryFewRows = 4;
#else
constexpr int64_t kTernaryFewRows = kLanes == 16 ? 16 : 8;
#endif

template <bnb_quant_type kType, bool kBlocks>
bool is_few(const GemmTernaryArgs &args) {
  return is_of(args, kType, kBlocks) && args.m <= kTernaryFewRows;
}

template <bnb_quant_type kType, bool kBlocks>
bool fits_panels(const GemmTernaryArgs &args) {
  return is_of(args, kType, kBlocks) && (!kBlocks || args.block % Dot::kDepth == 0);
}

#if defined(BNB_HAS_TILES)
template <bnb_quant_type kType, bool kBlocks>
bool fits_tiles(const GemmTernaryArgs &args) {
  return is_of(args, kType, kBlocks) && (!kBlocks || args.block % kByteTileK == 0);
}
#endif

bool has_blocks(const GemmTernaryArgs &args) { return is_of(args, BNB_TERNARY, true); }

}  // namespace

const GemmTernaryMethod kGemmTernaryMethods[] = {
    ternary_few_rows<TernaryLayout, false>("few rows, scales of rows", is_few<BNB_TERNARY, false>),
    ternary_few_rows<TernaryLayout, true>("few rows, scales of blocks", is_few<BNB_TERNARY, true>),
    ternary_few_rows<Tq1Layout, false>("few rows, scales of rows", is_few<BNB_TQ1_0, false>),
    ternary_few_rows<Tq1Layout, true>("few rows, scales of blocks", is_few<BNB_TQ1_0, true>),
    ternary_few_rows<Tq2Layout, false>("few rows, scales of rows", is_few<BNB_TQ2_0, false>),
    ternary_few_rows<Tq2Layout, true>("few rows, scales of blocks", is_few<BNB_TQ2_0, true>),
#if defined(BNB_HAS_TILES)
    byte_tile_panels<TernaryWeights<TernaryLayout, false>>("tiles, scales of rows", fits_tiles<BNB_TERNARY, false>),
    byte_tile_panels<TernaryWeights<TernaryLayout, true>>("tiles, scales of blocks", fits_tiles<BNB_TERNARY, true>),
    byte_tile_panels<TernaryWeights<Tq1Layout, false>>("tiles, scales of rows", fits_tiles<BNB_TQ1_0, false>),
    byte_tile_panels<TernaryWeights<Tq1Layout, true>>("tiles, scales of blocks", fits_tiles<BNB_TQ1_0, true>),
    byte_tile_panels<TernaryWeights<Tq2Layout, false>>("tiles, scales of rows", fits_tiles<BNB_TQ2_0, false>),
    byte_tile_panels<TernaryWeights<Tq2Layout, true>>("tiles, scales of blocks", fits_tiles<BNB_TQ2_0, true>),
    int8_panels<TernaryWeights<TernaryLayout, true>>("panels, scales of blocks", fits_panels<BNB_TERNARY, true>),
#else
    int8_panels<TernaryWeights<TernaryLayout, false>>("panels, scales of rows", fits_panels<BNB_TERNARY, false>),
    int8_panels<TernaryWeights<TernaryLayout, true>>("panels, scales of blocks", fits_panels<BNB_TERNARY, true>),
    int8_panels<TernaryWeights<Tq1Layout, false>>("panels, scales of rows", fits_panels<BNB_TQ1_0, false>),
    int8_panels<TernaryWeights<Tq1Layout, true>>("panels, scales of blocks", fits_panels<BNB_TQ1_0, true>),
    int8_panels<TernaryWeights<Tq2Layout, false>>("panels, scales of rows", fits_panels<BNB_TQ2_0, false>),
    int8_panels<TernaryWeights<Tq2Layout, true>>("panels, scales of blocks", fits_panels<BNB_TQ2_0, true>),
#endif
    ternary_few_rows<TernaryLayout, true>("few rows at a time, blocks of any size", has_blocks),
    {},
};

}  // namespace bnb::cpu::BNB_ISA
