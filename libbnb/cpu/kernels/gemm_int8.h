// SPDX-License-Identifier: MIT
// What the methods of the int8 product share: dot products of bytes, outlier columns, and sums on their way out.
//
// Sums are exact in int32, or modulo 2^32 where a correction comes last. From there on the arithmetic is that of
// dequantize_int8_mm, in its order: EXACT. Outlier columns are added behind it, in fp32: SUM.
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

BNB_INLINE Ints load_dot(const int8_t *p, int64_t count) {
  return count >= kDotElements ? Dot::load(p) : count > 0 ? Dot::load_some(p, count) : splat_int(0);
}

// Outlier columns of kLanes rows of activations, as fp32 [outliers][kLanes]: in front of what a method packs.
BNB_INLINE int64_t outlier_bytes(const GemmInt8Args &args) { return ceil_div(args.m, kLanes) * args.outliers * kVectorBytes; }

BNB_INLINE void pack_outliers(const GemmInt8KernelArgs &args, int64_t group) {
  const int64_t first = group * kLanes, rows = smaller(kLanes, args.m - first);
  float *to = reinterpret_cast<float *>(args.packed) + group * args.outliers * kLanes;
  with_float(args.x_dtype, [&](auto tag) {
    for (int64_t i = 0; i < args.outliers; ++i, to += kLanes) {
      const int64_t column = bnb::load<int64_t>(args.outlier_cols, i);
      for (int64_t row = 0; row < kLanes; ++row) {
        to[row] = row < rows ? load_float<decltype(tag)>(args.x, (first + row) * args.x_stride + column) : 0.0f;
      }
    }
  });
}

// Up to kLanes columns of out, from n0 on: what their results need besides the sums.
struct Columns {
  int64_t n0, count;
  Floats stats, bias;
  const float *outliers;  // dequantized weights, [args.outliers][kLanes]
};

// buffer: for the outliers, if there are any.
BNB_INLINE Columns load_columns(const GemmInt8Args &args, int64_t n0, int64_t count, float *buffer) {
  Columns columns{n0, count, splat(0.0f), splat(0.0f), buffer};
  if (args.dtype == DType::kI32) return columns;
  columns.stats = load_some<F32>(static_cast<const char *>(args.col_stats) + n0 * 4, count);
  columns.bias = load_bias(args, n0, count);
  for (int64_t i = 0; i < args.outliers; ++i, buffer += kLanes) {
    const int8_t *b = args.b + n0 * args.b_stride + bnb::load<int64_t>(args.outlier_cols, i);
    float codes[kLanes] = {};
    for (int64_t n = 0; n < count; ++n) codes[n] = float(b[n * args.b_stride]);
    store<F32>(buffer, mul(mul(load<F32>(codes), columns.stats), splat(1.0f / 127.0f)));
  }
  return columns;
}

template <typename Tag>
BNB_INLINE void store_result(const GemmInt8Args &args, const Columns &columns, int64_t m, Floats x) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  char *out = static_cast<char *>(args.out) + (m * args.out_stride + columns.n0) * kSize;
  if (columns.count == kLanes) {
    store<Tag>(out, x);
  } else {
    store_some<Tag>(out, x, columns.count);
  }
}

BNB_INLINE Floats scaled(const GemmInt8Args &args, const Columns &columns, int64_t m, Floats sums) {
  const Floats scale = mul(splat(bnb::load<float>(args.row_stats, m)), columns.stats);
  return mul(mul(to_float(bits(sums)), scale), splat(1.0f / (127.0f * 127.0f)));
}

// The sums of `rows` <= kLanes rows of out, the first of which, m0, begins a group: lane j of sums[i] is that of row i, column j, as
// bits of an integer.
BNB_INLINE void write_rows(const GemmInt8KernelArgs &args, const Columns &columns, int64_t m0, int64_t rows,
                           Floats (&sums)[kLanes]) {
  if (args.dtype == DType::kI32) {
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i < rows) store_result<F32>(args, columns, m0 + i, sums[i]);
    }
    return;
  }
  BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
    if (i < rows) sums[i] = scaled(args, columns, m0 + i, sums[i]);
  }
  const float *a = reinterpret_cast<const float *>(args.packed) + m0 / kLanes * args.outliers * kLanes;
  for (int64_t j = 0; j < args.outliers; ++j, a += kLanes) {
    const Floats weights = load<F32>(columns.outliers + j * kLanes);
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) sums[i] = fma(splat(a[i]), weights, sums[i]);
  }
  with_float(args.dtype, [&](auto tag) {
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i >= rows) continue;
      store_result<decltype(tag)>(args, columns, m0 + i, args.bias ? add(sums[i], columns.bias) : sums[i]);
    }
  });
}

// Columns whose rows are written together: many, so that a row gets a run of bytes, but not more outlier weights than stay in the
// level 2 cache.
constexpr int64_t kMostRunGroups = 16, kOutlierWeights = 1 << 16;
BNB_INLINE int64_t run_columns(const GemmInt8Args &args) {
  const int64_t groups = args.outliers ? kOutlierWeights / (args.outliers * kLanes) : kMostRunGroups;
  return kLanes * (groups < 1 ? 1 : smaller(groups, kMostRunGroups));
}
BNB_INLINE int64_t outlier_buffer_bytes(const GemmInt8Args &args) { return args.outliers * run_columns(args) * int64_t(sizeof(float)); }

// Writes rows [m0, m0 + rows) of columns [n0, n0 + columns) of out, m0 a multiple of kLanes. load(m, n, x): x[i] = the sums of
// column n0 + n + i, kLanes rows from m0 + m on.
template <typename Load>
BNB_INLINE void write_sums_of(const GemmInt8KernelArgs &args, int64_t m0, int64_t rows, int64_t n0, int64_t columns,
                              float *outlier_buffer, const Load &load) {
  const int64_t run = run_columns(args);
  for (int64_t first = 0; first < columns; first += run) {
    const int64_t last = smaller(columns, first + run);
    Columns groups[kMostRunGroups];
    for (int64_t n = first; n < last; n += kLanes) {
      float *buffer = outlier_buffer + (n - first) * args.outliers;
      groups[(n - first) / kLanes] = load_columns(args, n0 + n, smaller(kLanes, last - n), buffer);
    }
    for (int64_t m = 0; m < rows; m += kLanes) {
      for (int64_t n = first; n < last; n += kLanes) {
        Floats x[kLanes];
        load(m, n, x);
        transpose(x);
        write_rows(args, groups[(n - first) / kLanes], m0 + m, smaller(kLanes, rows - m), x);
      }
    }
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_H_
