// SPDX-License-Identifier: MIT
// What the methods of the 4-bit product share: the codebooks, scales in a row, and results on their way out.
#ifndef BNB_CPU_KERNELS_GEMM_4BIT_H_
#define BNB_CPU_KERNELS_GEMM_4BIT_H_

#include BNB_PRODUCTS_HEADER

#include "cpu/kernels/kernels.h"
#include "formats/fp4.h"
#include "formats/nf4.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// One load of codes: kGroup of them, eight in each 32-bit lane.
constexpr int64_t kGroup = 8 * kLanes, kGroupBytes = 4 * kLanes, kVectorBytes = 4 * kLanes;

BNB_INLINE int64_t round_up(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }
BNB_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

BNB_INLINE const uint32_t *codebook_of(bnb_quant_type quant_type) {
  return quant_type == BNB_NF4 ? formats::nf4::kCodeBits : formats::fp4::kCodeBits;
}

// Rows begin with a block, and a load of codes holds whole blocks or lies in one; blocks fill whole 32-bit lanes.
BNB_INLINE bool rows_are_blocks(const Gemm4bitArgs &args) {
  return args.k % args.blocksize == 0 && args.blocksize % 8 == 0 &&
         (args.blocksize % kGroup == 0 || kGroup % args.blocksize == 0);
}

// The scales of `count` <= kScalesAtOnce blocks from `first` on: where they are, or a copy in `buffer`.
constexpr int64_t kScalesAtOnce = 256;
BNB_INLINE const char *scales_of(const AbsmaxView &absmax, int64_t first, int64_t count, float *buffer) {
  if (!absmax.codes) return static_cast<const char *>(absmax.absmax) + first * 4;  // both are NULL where there are no blocks
  const bool aligned = reinterpret_cast<uintptr_t>(absmax.nested_code) % 4 == 0;
  const float offset = bnb::load<float>(absmax.nested_offset, 0);
  int64_t block = first / absmax.nested_blocksize, left = absmax.nested_blocksize - first % absmax.nested_blocksize;
  for (int64_t i = 0; i < count; ++block, left = absmax.nested_blocksize) {
    const int64_t stop = left < count - i ? i + left : count;
    const float scale = bnb::load<float>(absmax.nested_absmax, block);
    for (; aligned && i + kLanes <= stop; i += kLanes) {
      const Floats code = gather(static_cast<const float *>(absmax.nested_code), load_uint8(absmax.codes + first + i));
      store<F32>(buffer + i, add(mul(code, splat(scale)), splat(offset)));
    }
    for (; i < stop; ++i) {
      const float product = bnb::load<float>(absmax.nested_code, absmax.codes[first + i]) * scale;
      buffer[i] = product + offset;
    }
  }
  return reinterpret_cast<const char *>(buffer);
}

// The blocks of elements [k0, k1) of a row that is made of whole blocks.
struct Blocks {
  int64_t per_row, first, count;  // first: within the row
  int64_t left_in_first;          // elements
};
BNB_INLINE Blocks blocks_of(const Gemm4bitArgs &args, int64_t k0, int64_t k1) {
  const int64_t first = k0 / args.blocksize;
  return {args.k / args.blocksize, first, ceil_div(k1, args.blocksize) - first, args.blocksize - k0 % args.blocksize};
}

// The row of spread() for a load of codes: which of its blocks each 32-bit lane belongs to.
BNB_INLINE Ints block_of_lane(int64_t blocksize) {
  int32_t index[kLanes];
  for (int i = 0; i < kLanes; ++i) index[i] = int32_t(i * 8 / blocksize);
  return load_int32(index);
}

BNB_INLINE float bias_at(const Gemm4bitArgs &args, int64_t column) {
  if (!args.bias) return 0.0f;
  if (args.bias_dtype == DType::kF32) return load_float<F32>(args.bias, column);
  return args.bias_dtype == DType::kF16 ? load_float<F16>(args.bias, column) : load_float<BF16>(args.bias, column);
}

BNB_INLINE Floats load_bias(const Gemm4bitArgs &args, int64_t column, int64_t count) {
  float values[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = bias_at(args, column + i);
  return load<F32>(values);
}

// A part of the sums, standing on its side: c[column * c_stride + row] for rows [m0, m0 + rows) and columns [n0, n0 + columns)
// of out. Adds the bias, rounds and stores. Reads sums up to the next multiple of kLanes in both directions.
template <typename Tag>
BNB_INLINE void write_sums(const Gemm4bitArgs &args, const float *c, int64_t c_stride, int64_t m0, int64_t rows, int64_t n0,
                           int64_t columns) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  for (int64_t n = 0; n < columns; n += kLanes) {
    const int64_t count = smaller(kLanes, columns - n);
    const Floats bias = load_bias(args, n0 + n, count);
    for (int64_t m = 0; m < rows; m += kLanes) {
      Floats x[kLanes];
      BNB_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = load<F32>(c + (n + i) * c_stride + m);
      transpose(x);
      char *out = static_cast<char *>(args.out) + ((m0 + m) * args.out_stride + n0 + n) * kSize;
      const int64_t left = smaller(kLanes, rows - m);
      BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
        if (i >= left) continue;
        const Floats sums = args.bias ? add(x[i], bias) : x[i];
        if (count == kLanes) {
          store<Tag>(out + i * args.out_stride * kSize, sums);
        } else {
          store_some<Tag>(out + i * args.out_stride * kSize, sums, count);
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
BNB_INLINE Panels cut(const Gemm4bitArgs &args, int64_t columns, int64_t rows) {
  return {ceil_div(args.n, columns), ceil_div(args.m, rows)};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_4BIT_H_
