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

template <int64_t kRows>
bool is_few_int8(const GemmInt8Args &args) {
  return args.m <= kRows;
}

}  // namespace

const GemmInt8Method kGemmInt8Methods[] = {
#if defined(BNB_HAS_TILES)
    {"few rows, bytes", is_few_int8<8>, plan_int8_few, pack_int8_few, multiply_int8_few},
    {"tiles, bytes", is_any_int8, plan_byte_tiles, pack_byte_tiles, multiply_byte_tile_panels},
#else
    {"few rows, bytes", is_few_int8<kInt8FewRows>, plan_int8_few, pack_int8_few, multiply_int8_few},
    {"panels, bytes", is_any_int8, plan_int8_panel, pack_int8_panel, multiply_int8_panel},
#endif
    {},
};

}  // namespace bnb::cpu::BNB_ISA
