// SPDX-License-Identifier: MIT
// out = A @ B^T in int8, scaled or not: which method for which shape.
#include "cpu/kernels/gemm_int8_few.h"
#if defined(BNB_HAS_TILES)
#include "cpu/kernels/gemm_int8_tiles.h"
#else
#include "cpu/kernels/gemm_int8_panel.h"
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

bool is_any_int8(const GemmInt8Args &) { return true; }

#if defined(BNB_HAS_TILES)
// Several rows have to come from the level 1 cache for every row of weights; then tiles are faster, which read them once for 64.
bool is_few_int8(const GemmInt8Args &args) { return args.m == 1 || (args.m <= 4 && args.m * args.k <= 32 << 10); }
#else
bool is_few_int8(const GemmInt8Args &args) { return args.m <= kInt8FewRows; }
#endif

}  // namespace

const GemmInt8Method kGemmInt8Methods[] = {
    {"few rows, bytes", is_few_int8, plan_int8_few, pack_int8_few, multiply_int8_few},
#if defined(BNB_HAS_TILES)
    byte_tile_panels<Int8Weights>("tiles, bytes", is_any_int8),
#else
    int8_panels<Int8Weights>("panels, bytes", is_any_int8),
#endif
    {},
};

}  // namespace bnb::cpu::BNB_ISA
