// SPDX-License-Identifier: MIT
// What the methods of products with quantized weights share: scales in a row, and results on their way out.
//
// Methods know weights by their look-ups, classes of the weights_<format>.h beside this file. One load of codes is a group. A
// look-up turns it into vectors of weights, one per step, in an order of its own, which the activations are put into once per call:
//   kGroup, kGroupBytes          codes in a load, and their bytes
//   kSteps, kLanesPerStep        vectors that they become
//   element(step, lane)          which code of the group comes out where
//   kLaneCodes                   blocks of a multiple of this may share a load: so many neighbours lie in one 32-bit lane,
//                                whatever the step. kGroup: no two blocks share one
//   kPart                        what count is a multiple of in read_some(), and K if rows are one block each
//   kFactor                      whether weights lack a factor, Table::factor, which the sums are multiplied with at the end
//   Activation                   what activations are multiplied as
//   table(quant_type)            -> Table: what a call needs to know of the format
//   read(table, p), read_some(table, p, count)    -> Group; the first `count` codes, zeros behind them
//   weights<kStep>(table, group), dot(weights, p, sums): sums + the products with the activations at p
#ifndef BNB_CPU_KERNELS_GEMM_METHODS_H_
#define BNB_CPU_KERNELS_GEMM_METHODS_H_

#include BNB_PRODUCTS_HEADER

#include "cpu/kernels/kernels.h"
#include "cpu/kernels/scales.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kVectorBytes = 4 * kLanes;

BNB_INLINE int64_t round_up(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }
BNB_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename Lookup>
BNB_INLINE constexpr int64_t bytes_of_codes(int64_t count) {  // which begin and end with a byte
  return count / (Lookup::kGroup / Lookup::kGroupBytes);
}

// A load of codes holds several whole blocks.
template <typename Lookup>
BNB_INLINE bool blocks_share_loads(const GemmArgs &args) {
  return args.blocksize < Lookup::kGroup && Lookup::kGroup % args.blocksize == 0 && args.blocksize % Lookup::kLaneCodes == 0;
}

// Rows begin with a block, and a load of codes holds whole blocks or lies in one; or rows are one block each.
template <typename Lookup>
BNB_INLINE bool rows_are_blocks(const GemmArgs &args) {
  if (args.k % args.blocksize != 0) return false;
  return args.blocksize % Lookup::kGroup == 0 || blocks_share_loads<Lookup>(args) ||
         (args.blocksize == args.k && args.k % Lookup::kPart == 0);
}

// Rows of weights that are asked for before they are decoded: far enough for main memory, and near enough to stay in the cache.
constexpr int64_t kRowsAhead = 8;

// Asks for the scales from block `first` on. Any block will do.
BNB_INLINE void prefetch_scales(const AbsmaxView &scales, int64_t first) {
  prefetch(scales.codes ? static_cast<const void *>(scales.codes + first) : static_cast<const char *>(scales.absmax) + first * 4);
}

// The blocks of elements [k0, k1) of a row that is made of whole blocks.
struct Blocks {
  int64_t per_row, first, count;  // first: within the row
  int64_t left_in_first;          // elements
};
BNB_INLINE Blocks blocks_of(const GemmArgs &args, int64_t k0, int64_t k1) {
  const int64_t first = k0 / args.blocksize;
  return {args.k / args.blocksize, first, ceil_div(k1, args.blocksize) - first, args.blocksize - k0 % args.blocksize};
}

// The index of spread() for a load of codes: which of its blocks each 32-bit lane belongs to.
template <typename Lookup>
BNB_INLINE Ints block_of_lane(int64_t blocksize) {
  int32_t index[kLanes];
  for (int i = 0; i < kLanes; ++i) index[i] = int32_t(i * Lookup::kLaneCodes / blocksize);
  return load_int32(index);
}

// The 32-bit lanes of a load that hold any of its first `count` codes.
template <typename Lookup>
BNB_INLINE Mask lanes_below(int64_t count) {
  return first_lanes(ceil_div(count, Lookup::kLaneCodes));
}

template <typename Args>
BNB_INLINE float bias_at(const Args &args, int64_t column) {
  if (!args.bias) return 0.0f;
  if (args.bias_dtype == DType::kF32) return load_float<F32>(args.bias, column);
  return args.bias_dtype == DType::kF16 ? load_float<F16>(args.bias, column) : load_float<BF16>(args.bias, column);
}

BNB_INLINE Floats load_row_scales(const GemmArgs &args, int64_t column, int64_t count) {
  float values[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = args.scales.at(column + i);
  return load<F32>(values);
}

template <typename Args>
BNB_INLINE Floats load_bias(const Args &args, int64_t column, int64_t count) {
  float values[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = bias_at(args, column + i);
  return load<F32>(values);
}

// What weights still lack when they are multiplied, so that the sums get it.
enum class Waiting { kNothing, kRowScales, kTensorScale };

BNB_INLINE Floats waiting_scales(const GemmArgs &args, Waiting waiting, int64_t column, int64_t count) {
  if (waiting == Waiting::kRowScales) return load_row_scales(args, column, count);
  return splat(waiting == Waiting::kTensorScale ? args.scales.of_tensor() : 1.0f);
}

// A part of the sums, for rows [m0, m0 + rows) and columns [n0, n0 + columns) of out. They stand on their side: at(n, m), for multiples
// of kLanes, is where the sums of kLanes rows of column n are, and c_stride floats behind those of the next column. Multiplies
// with what waited, adds the bias, rounds and stores. Reads sums up to the next multiple of
// kLanes in both directions.
template <typename Tag, typename At>
BNB_INLINE void write_sums(const GemmArgs &args, const At &at, int64_t c_stride, int64_t m0, int64_t rows, int64_t n0,
                           int64_t columns, Waiting waiting) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  for (int64_t m = 0; m < rows; m += kLanes) {
    const int64_t left = smaller(kLanes, rows - m);
    for (int64_t n = 0; n < columns; n += kLanes) {
      const int64_t count = smaller(kLanes, columns - n);
      const Floats bias = args.bias ? load_bias(args, n0 + n, count) : splat(0.0f);
      const Floats scale = waiting_scales(args, waiting, n0 + n, count);
      Floats x[kLanes];
      BNB_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = load<F32>(at(n, m) + i * c_stride);
      transpose(x);
      if (waiting != Waiting::kNothing) {
        BNB_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = mul(x[i], scale);
      }
      if (args.bias) {
        BNB_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = add(x[i], bias);
      }
      char *out = static_cast<char *>(args.out) + ((m0 + m) * args.out_stride + n0 + n) * kSize;
      const int64_t stride = args.out_stride * kSize;
      if (left == kLanes && count == kLanes) {
        BNB_UNROLL for (int i = 0; i < kLanes; ++i) store<Tag>(out + i * stride, x[i]);
      } else {
        BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
          if (i < left) store_some<Tag>(out + i * stride, x[i], count);
        }
      }
    }
  }
}

// How the panel methods cut a product into units.
struct Panels {
  int64_t across, down;
  BNB_INLINE int64_t count() const { return across * down; }
};
template <typename Args>
BNB_INLINE Panels cut(const Args &args, int64_t columns, int64_t rows) {
  return {ceil_div(args.n, columns), ceil_div(args.m, rows)};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_METHODS_H_
