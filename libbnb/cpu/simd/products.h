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
//   load_pairs(p)             2 * kLanes int8 -> Ints: two int16 in each lane;  load_pairs_some(p, count): the first `count` of them
//   add_pair_products(sums, a, b)    lane i is sums + the two products of the int16 in lane i of a and b -> Ints
//
//   CodeSums                  sums of products of bytes 0 .. 3 with int8: those of four neighbours belong to one 32-bit lane
//   begin_code_sums(start), end_code_sums(start, sums)    from Ints, and to them, modulo 2^32, with at most kMostCodeProducts between
//   add_code_products(sums, codes, a)    adds the products of 4 * kLanes bytes each
//   repeat<N>(p)              the N bytes at p, 4, 16 or 32, over and over -> Ints
//   join<N>(a, b)            the first N bytes of a, 16 or (with more than 32 lanes of bytes) 32 or 48, then those of b
//   multiply_bytes(a, b)      bytes, modulo 256;  carries_of_3(v): what 3 * v carries out of each byte
//
//   kTileRows, kTileVectors   rows of weights and vectors of activations whose products the registers hold at once
//   kFewRows                  rows of activations that one look-up of weights can serve from registers
//
// Instruction sets with a dot product of bf16 pairs define BNB_HAS_BF16_PRODUCTS and give (avx512_bf16_products.h has the text):
//   Pairs                     32 bf16;  dot_pairs(weights, p, sums): sums + the products with the 32 bf16 at p, by pairs
//   NibblePairs, BytePairs    codebooks of 4 and 8 bits as bf16, and look-ups of a load of codes
//   BF16Parts and its words   fp32 as one or two parts of bf16
//   TileUnit                  products of tiles of 16 x 32 bf16
// Those with a dot product of bytes define BNB_HAS_BYTE_PRODUCTS and give
//   load_bytes_some(p, count) the first `count` <= 4 * kLanes bytes, zeros behind them -> Ints
//   add_byte_products(sums, u, s)    lane i is sums + the four products of uint8 in u and int8 in s -> Ints, modulo 2^32
// Those that look up bytes in a table of 256 define BNB_HAS_BYTE_TABLES and give
//   ByteTable                 load_byte_table(p);  look_up(table, v): of each byte of v -> Ints
// and those with tile registers define BNB_HAS_TILES and give multiply_byte_tiles (avx512_amx_products.h).
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
