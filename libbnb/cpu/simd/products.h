// SPDX-License-Identifier: MIT
// More words, for matrix products: what every cpu/simd/<isa>_products.h gives. Kernels include it with
// `#include BNB_PRODUCTS_HEADER`, which brings the words of words.h, too.
//
//   reduce_add(x)             the sum of the lanes, in pairs
//   transpose(x)              Floats x[kLanes]: lane i of x[j] changes places with lane j of x[i]
//   spread(p, count, index)   lane i is the fp32 number p[index of lane i]; all indices are below count <= kLanes, or such lanes do
//                             not matter; p[count] and what is behind it is not touched
//   make_nibble_floats(codebook)    16 fp32 numbers, as bits
//   look_up<N>(table, v)      lane i is the number of nibble N (0: the lowest) of lane i of the Ints v -> Floats
//
//   kTileRows, kTileVectors   rows of weights and vectors of activations whose products the registers hold at once
//   kFewRows                  rows of activations that one look-up of weights can serve from registers
//
// Instruction sets with a dot product of bf16 pairs define BNB_HAS_BF16_PRODUCTS and give (avx512_bf16_products.h has the text):
//   BF16Lookup                weights as bf16 codes, and their dot product with activations
//   TileUnit, multiply_tiles  products of tiles of 16 x 32 bf16
#ifndef BNB_CPU_SIMD_PRODUCTS_H_
#define BNB_CPU_SIMD_PRODUCTS_H_

#include <cstdint>

// Loops whose every iteration is a register of its own. -O2 alone would leave them loops over memory.
#if defined(__GNUC__)
#define BNB_UNROLL _Pragma("GCC unroll 32")
#else
#define BNB_UNROLL
#endif

namespace bnb::cpu::BNB_ISA {
namespace {

// A hint that p will be read soon. Any address will do.
BNB_INLINE void prefetch(const void *p) {
#if defined(__GNUC__)
  __builtin_prefetch(p);
#else
  (void)p;
#endif
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_PRODUCTS_H_
