// SPDX-License-Identifier: MIT
// The two operations that an LLM.int8() layer is made of, whatever the backend: rows are quantized, then multiplied.
#ifndef BNB_CORE_LINEAR_INT8_H_
#define BNB_CORE_LINEAR_INT8_H_

#include "core/ops.h"

namespace bnb {

// codes [m, k] and row_stats [m] are temporary memory; so is marks [k], where there is a threshold.
inline QuantizeInt8Args rows_of_layer(const LinearInt8Args &args, int8_t *codes, void *row_stats, uint8_t *marks) {
  QuantizeInt8Args rows{};
  rows.dtype = args.dtype;
  rows.a = args.a;
  rows.rows = args.m;
  rows.cols = args.k;
  rows.row_stride = args.a_stride;
  rows.threshold = args.threshold;
  rows.out = codes;
  rows.row_stats = row_stats;
  rows.outlier_cols = args.threshold > 0.0f ? marks : nullptr;
  return rows;
}

// But for the number of outlier columns, which a backend says in its own way.
inline GemmInt8Args product_of_layer(const LinearInt8Args &args, const int8_t *codes, const void *row_stats, const void *outlier_cols) {
  GemmInt8Args product{};
  product.a = codes;
  product.b = args.b;
  product.m = args.m;
  product.n = args.n;
  product.k = product.a_stride = args.k;
  product.b_stride = args.b_stride;
  product.dtype = args.dtype;
  product.row_stats = row_stats;
  product.col_stats = args.col_stats;
  product.bias_dtype = args.bias_dtype;
  product.bias = args.bias;
  product.x_dtype = args.dtype;
  product.x = args.a;
  product.x_stride = args.a_stride;
  product.outlier_cols = outlier_cols;
  product.out = args.out;
  product.out_stride = args.out_stride;
  return product;
}

}  // namespace bnb

#endif  // BNB_CORE_LINEAR_INT8_H_
