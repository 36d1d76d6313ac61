// SPDX-License-Identifier: MIT
// Products of int8 rows with weights that are int8 or become it: what their kernels are given, and what they do with sums.
//
// Every kernel rounds the same: sums of a block are integers; blocks of a row, if there are some, are added up in fp32 in their order
// (but in few_rows.h, which a shape alone decides on); then come scales, outlier columns in their order, and the bias. So which
// kernel ran cannot be seen in a result.
#ifndef BNB_GPU_INT8_PRODUCT_H_
#define BNB_GPU_INT8_PRODUCT_H_

#include "core/ops.h"
#include "gpu/launch.h"
#include "gpu/vectors.h"

namespace bnb::gpu {

// What does not apply is 0.
struct Int8Product {
  const int8_t *a;  // [m, k]
  const uint8_t *b;  // [n, k]: int8, or codes
  int64_t m, n, k, a_stride, b_stride;  // b_stride: int8 alone
  const void *scale;                    // ternary: fp32, of blocks
  Divisor block{1};                     // weights of a row that share a scale
  int64_t blocks, rows_per_scale;       // of a row; 1 or more, if a scale is for whole rows
  DType dtype;  // of out: a float dtype or int32
  const void *row_stats, *col_stats;
  bool same_row_stats;
  DType bias_dtype, x_dtype;
  const void *bias, *x;
  int64_t x_stride, outliers;
  const int64_t *outlier_count;  // NULL: it is `outliers`
  const void *outlier_cols;
  void *out;
  int64_t out_stride;

  BNB_DEVICE_METHOD int64_t outlier_columns() const { return outlier_count ? *outlier_count : outliers; }
  BNB_DEVICE_METHOD float row_stat(int64_t row) const { return load<float>(row_stats, same_row_stats ? 0 : row); }
};

BNB_DEVICE float load_as_float(DType dtype, const void *array, int64_t i) {
  if (dtype == DType::kF32) return load_float<F32>(array, i);
  return dtype == DType::kF16 ? load_float<F16>(array, i) : load_float<BF16>(array, i);
}

BNB_DEVICE void store_sum(const Int8Product &p, int64_t row, int64_t column, int sum) {
  store<int32_t>(p.out, row * p.out_stride + column, sum);
}
BNB_DEVICE void store_value(const Int8Product &p, int64_t row, int64_t column, float value) {
  if (p.bias) value += load_as_float(p.bias_dtype, p.bias, column);
  const int64_t at = row * p.out_stride + column;
  if (p.dtype == DType::kF32) {
    store_float<F32>(p.out, at, value);
  } else if (p.dtype == DType::kF16) {
    store_float<F16>(p.out, at, value);
  } else {
    store_float<BF16>(p.out, at, value);
  }
}

// Some outlier columns of a tile of the output: of its rows what is multiplied there, of its columns the dequantized weights. In
// shared memory. A column that there is none of (the CPU reports such) counts as zeros.
template <int kRows, int kCols>
struct Outliers {
  static constexpr int kChunk = 16;
  float x[kChunk][kRows];
  float w[kChunk][kCols];

  // Fills in those from `first` on, all threads of the block, and returns how many there are. Barriers are around it.
  BNB_DEVICE_METHOD int load_chunk(const Int8Product &p, int64_t first, int64_t count, int64_t row, int64_t column) {
    const int here = int(count - first < kChunk ? count - first : kChunk);
    for (int i = int(thread_index()); i < here * (kRows + kCols); i += int(thread_count())) {
      const int j = i / (kRows + kCols), at = i % (kRows + kCols);
      const int64_t k = load<int64_t>(p.outlier_cols, first + j);
      const bool inside = k >= 0 && k < p.k;
      if (at < kRows) {
        const bool take = inside && row + at < p.m;
        x[j][at] = take ? load_as_float(p.x_dtype, p.x, (row + at) * p.x_stride + k) : 0.0f;
      } else {
        const int64_t n = column + at - kRows;
        const bool take = inside && n < p.n;
        const float code = take ? float(int8_t(p.b[n * p.b_stride + k])) : 0.0f;
        w[j][at - kRows] = take ? code * load<float>(p.col_stats, n) * (1.0f / 127.0f) : 0.0f;
      }
    }
    return here;
  }
};

// A kernel that may do a product. Lists of them end with an empty one.
struct Int8Candidate {
  const char *name;
  bool (*fits)(const Int8Product &, const Queue &);
  bnb_status (*launch)(const Int8Product &, const Queue &);
};

inline bnb_status multiply_by_first(const Int8Candidate *candidates, const Int8Product &product, const Queue &queue) {
  while (!candidates->fits(product, queue)) ++candidates;
  return candidates->launch(product, queue);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_INT8_PRODUCT_H_
