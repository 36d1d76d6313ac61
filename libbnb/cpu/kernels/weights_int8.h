// SPDX-License-Identifier: MIT
// int8 weights for the methods of gemm_int8.h. Sums leave as they are, or scaled with the arithmetic of dequantize_int8_mm, in its
// order: EXACT. Outlier columns are added behind that, in fp32: SUM.
#ifndef BNB_CPU_KERNELS_WEIGHTS_INT8_H_
#define BNB_CPU_KERNELS_WEIGHTS_INT8_H_

#include "cpu/kernels/gemm_int8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Outlier weights of a run of columns are not more than stay in the level 2 cache.
constexpr int64_t kOutlierWeights = 1 << 16;

struct Int8Weights {
  using Args = GemmInt8Args;
  static constexpr bool kScalesBlocks = false;
  static BNB_INLINE int64_t block(const Args &args) { return args.k > 0 ? args.k : 1; }
  static BNB_INLINE float scale(const Args &, int64_t, int64_t) { return 1.0f; }

  static constexpr bool kSmall = false;
  static BNB_INLINE const char *address(const Args &args, int64_t n, int64_t k) {
    return reinterpret_cast<const char *>(args.b + n * args.b_stride + k);
  }
  static BNB_INLINE int64_t row_bytes(const Args &args) { return args.b_stride; }
  static BNB_INLINE const int8_t *row(const Args &args, int64_t n, int64_t k0, int64_t, int8_t *) {
    return args.b + n * args.b_stride + k0;
  }

  // Outlier columns of kLanes rows of activations, as fp32 [outliers][kLanes].
  static BNB_INLINE int64_t front_bytes(const Args &args) { return ceil_div(args.m, kLanes) * args.outliers * kVectorBytes; }

  static BNB_INLINE void pack_front(const GemmInt8KernelArgs &args, int64_t group) {
    if (args.outliers == 0) return;
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

  static BNB_INLINE Columns load_columns(const Args &args, int64_t n0, int64_t count, float *buffer, int64_t index) {
    buffer += index * args.outliers * kLanes;
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

  static BNB_INLINE Floats scaled(const Args &args, const Columns &columns, int64_t m, Floats sums) {
    const Floats scale = mul(splat(bnb::load<float>(args.row_stats, m)), columns.stats);
    return mul(mul(to_float(bits(sums)), scale), splat(1.0f / (127.0f * 127.0f)));
  }

  // Lane j of sums[i] is the sum of row i, column j, as bits of an integer.
  static BNB_INLINE void write_rows(const GemmInt8KernelArgs &args, const Columns &columns, int64_t m0, int64_t rows,
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
    store_rows(args, columns, m0, rows, sums);
  }

  static BNB_INLINE int64_t run_columns(const Args &args) {
    const int64_t groups = args.outliers ? kOutlierWeights / (args.outliers * kLanes) : kMostRunGroups;
    return kLanes * (groups < 1 ? 1 : smaller(groups, kMostRunGroups));
  }
  static BNB_INLINE int64_t buffer_bytes(const Args &args) { return args.outliers * run_columns(args) * int64_t(sizeof(float)); }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_WEIGHTS_INT8_H_
