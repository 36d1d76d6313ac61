// SPDX-License-Identifier: MIT
// What the methods of products of int8 activations share: dot products of bytes, and sums on their way out. Sums are exact in int32,
// or modulo 2^32 where a correction comes last.
//
// Methods know weights by classes (weights_int8.h, weights_ternary.h):
//   Args                          what a product of such weights gets; below, args are ProductArgs<Args>
//   block(args)                   elements of K, from 0 on, whose products are summed as integers: K, or less that divides it
//   kScalesBlocks                 whether that may be less. The sum of a block is then multiplied with scale(args, n, block), and
//                                 added to those of other blocks in fp32
//   row(args, n, k0, k1, buffer)  elements [k0, k1) of row n as int8: where they are, or in the buffer. k0 is a multiple of
//                                 kRowStretch, and k1 - k0 at most kInt8Stretch
//   address(args, n, k), row_bytes(args)    where element k of row n is, or would be; from there to that of the next row
//   kSmall                        whether a stretch of a row is but a line or two of memory
//   front_bytes(args), pack_front(args, group)    what the weights need of activations beside their codes, in front of what a method
//                                 packs of kLanes rows
//   load_columns(args, n0, count, buffer, index)  what kLanes columns of out need beside sums, the index-th that share a buffer
//   write_rows(args, columns, m0, rows, sums)     these sums' way to out; m0 begins a group
//   run_columns(args), buffer_bytes(args)         columns whose rows are written together, and the buffer that they want
#ifndef BNB_CPU_KERNELS_GEMM_INT8_H_
#define BNB_CPU_KERNELS_GEMM_INT8_H_

#include "cpu/kernels/gemm_methods.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// How weights and activations meet in 32-bit lanes, kDepth of each in one. What weights() makes of weights is kOffset too large,
// which makes a sum too large by kOffset times the sum of the activations.
#if defined(BNB_HAS_BYTE_PRODUCTS)
struct Dot {
  static constexpr int kDepth = 4, kOffset = 128;  // the instruction wants one side unsigned
  static BNB_INLINE Ints load(const int8_t *p) { return load_int32(p); }
  static BNB_INLINE Ints load_some(const int8_t *p, int64_t count) { return load_bytes_some(p, count); }
  static BNB_INLINE Ints weights(Ints v) { return xor_int(v, splat_bits(0x80808080u)); }
  static BNB_INLINE Ints add(Ints sums, Ints weights, Ints activations) { return add_byte_products(sums, weights, activations); }
  static BNB_INLINE Ints ones() { return splat_bits(0x01010101u); }
};
#else
struct Dot {
  static constexpr int kDepth = 2, kOffset = 0;
  static BNB_INLINE Ints load(const int8_t *p) { return load_pairs(p); }
  static BNB_INLINE Ints load_some(const int8_t *p, int64_t count) { return load_pairs_some(p, count); }
  static BNB_INLINE Ints weights(Ints v) { return v; }
  static BNB_INLINE Ints add(Ints sums, Ints weights, Ints activations) {
    return add_pair_products(sums, weights, activations);
  }
  static BNB_INLINE Ints ones() { return splat_bits(0x00010001u); }
};
#endif
constexpr int64_t kDotElements = Dot::kDepth * kLanes;  // in a vector
constexpr int64_t kInt8Stretch = 128 * Dot::kDepth;     // of K, that panels hold at a time: a multiple of kDotElements and of
constexpr int64_t kRowStretch = 256;

BNB_INLINE Ints load_dot(const int8_t *p, int64_t count) {
  return count >= kDotElements ? Dot::load(p) : count > 0 ? Dot::load_some(p, count) : splat_int(0);
}

// Asks for elements [k0, k1) of row n of weights.
template <typename Weights>
BNB_INLINE void ask_for_row(const typename Weights::Args &args, int64_t n, int64_t k0, int64_t k1) {
  const char *p = Weights::address(args, n, k0), *end = Weights::address(args, n, k1);
  for (; p < end; p += kLineBytes) prefetch(p);
}

// The parts of [k0, k1) that lie in one block of K each: body(block, from, to). At least one, which is empty if there is no K.
template <typename Body>
BNB_INLINE void for_each_block(int64_t block_size, int64_t k0, int64_t k1, const Body &body) {
  int64_t k = k0;
  do {
    const int64_t block = k / block_size, stop = smaller(k1, (block + 1) * block_size);
    body(block, k, stop);
    k = stop;
  } while (k < k1);
}

// The blocks that a stretch of K may touch.
BNB_INLINE int64_t stretch_blocks(int64_t block_size, int64_t stretch) {
  return stretch % block_size == 0 ? stretch / block_size : stretch / block_size + 2;
}

// The scales of the blocks of [k0, k1) in rows [n0, n0 + columns) of weights, `stride` apart from row to row; any up to the next
// multiple of kTileRows.
template <typename Weights>
BNB_INLINE void copy_scales(const typename Weights::Args &args, int64_t n0, int64_t columns, int64_t block_size, int64_t k0,
                            int64_t k1, float *to, int64_t stride) {
  const int64_t first = k0 / block_size, last = ceil_div(k1, block_size);
  for (int64_t n = 0; n < columns; ++n) {
    for (int64_t block = first; block < last; ++block) to[n * stride + block - first] = Weights::scale(args, n0 + n, block);
  }
}

// Up to kLanes columns of out, from n0 on: what their results need besides the sums.
struct Columns {
  int64_t n0, count;
  Floats stats, bias;
  const float *outliers;  // of int8 weights: those of outlier columns, dequantized, [args.outliers][kLanes]
};

template <typename Tag, typename Args>
BNB_INLINE void store_result(const Args &args, const Columns &columns, int64_t m, Floats x) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  char *out = static_cast<char *>(args.out) + (m * args.out_stride + columns.n0) * kSize;
  if (columns.count == kLanes) {
    store<Tag>(out, x);
  } else {
    store_some<Tag>(out, x, columns.count);
  }
}

// Adds the bias to results of `rows` <= kLanes rows of out from m0 on, rounds and stores them.
template <typename Args>
BNB_INLINE void store_rows(const Args &args, const Columns &columns, int64_t m0, int64_t rows, const Floats (&x)[kLanes]) {
  with_float(args.dtype, [&](auto tag) {
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i < rows) store_result<decltype(tag)>(args, columns, m0 + i, args.bias ? add(x[i], columns.bias) : x[i]);
    }
  });
}

// Columns whose rows are written together: many, so that a row gets a run of bytes.
constexpr int64_t kMostRunGroups = 16;

// Writes rows [m0, m0 + rows) of columns [n0, n0 + columns) of out, m0 a multiple of kLanes. load(m, n, x): x[i] = the sums of
// column n0 + n + i, kLanes rows from m0 + m on.
template <typename Weights, typename Load>
BNB_INLINE void write_sums_of(const ProductArgs<typename Weights::Args> &args, int64_t m0, int64_t rows, int64_t n0,
                              int64_t columns, float *buffer, const Load &load) {
  const int64_t run = Weights::run_columns(args);
  for (int64_t first = 0; first < columns; first += run) {
    const int64_t last = smaller(columns, first + run);
    Columns groups[kMostRunGroups];
    for (int64_t n = first; n < last; n += kLanes) {
      const int64_t index = (n - first) / kLanes;
      groups[index] = Weights::load_columns(args, n0 + n, smaller(kLanes, last - n), buffer, index);
    }
    for (int64_t m = 0; m < rows; m += kLanes) {
      for (int64_t n = first; n < last; n += kLanes) {
        Floats x[kLanes];
        load(m, n, x);
        transpose(x);
        Weights::write_rows(args, groups[(n - first) / kLanes], m0 + m, smaller(kLanes, rows - m), x);
      }
    }
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_H_
