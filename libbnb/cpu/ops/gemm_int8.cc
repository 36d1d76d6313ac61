// SPDX-License-Identifier: MIT
// int8 products on the CPU: the first method of the table that fits, and LLM.int8() around it.
#include "core/scratch.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {
namespace {

bnb_status check_outlier_cols(const GemmInt8Args &args) {
  int64_t previous = -1;
  for (int64_t i = 0; i < args.outliers; ++i) {
    const int64_t column = load<int64_t>(args.outlier_cols, i);
    if (column <= previous || column >= args.k) {
      return fail(BNB_ERROR_INVALID_ARGUMENT, "outlier_cols[%lld] is %lld, must be a column of A, 0 to %lld, above those before it",
                  (long long)i, (long long)column, (long long)(args.k - 1));
    }
    previous = column;
  }
  return BNB_OK;
}

// Turns the marks of columns into a list of them and gives its length.
int64_t list_columns(const uint8_t *marks, int64_t cols, int64_t *list) {
  int64_t count = 0;
  for (int64_t col = 0; col < cols; ++col) {
    if (marks[col]) list[count++] = col;
  }
  return count;
}

}  // namespace

bnb_status gemm_int8(const GemmInt8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const bnb_status status = check_outlier_cols(args);
  return status == BNB_OK ? multiply_by_method(kernels->gemm_int8, args) : status;
}

bnb_status linear_int8(const LinearInt8Args &args, Queue queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const bool outliers = args.threshold > 0.0f;
  const Scratch<int8_t> codes(args.m * args.k);
  const Scratch<float> row_stats(args.m);
  const Scratch<uint8_t> marks(outliers ? args.k : 0);
  const Scratch<int64_t> columns(outliers ? args.k : 0);
  if (!codes.usable() || !row_stats.usable() || !marks.usable() || !columns.usable()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %lld bytes of codes", (long long)(args.m * args.k));
  }

  QuantizeInt8Args quantize{};
  quantize.dtype = args.dtype;
  quantize.a = args.a;
  quantize.rows = args.m;
  quantize.cols = args.k;
  quantize.row_stride = args.a_stride;
  quantize.threshold = args.threshold;
  quantize.out = codes.data();
  quantize.row_stats = row_stats.data();
  quantize.outlier_cols = outliers ? marks.data() : nullptr;
  const bnb_status status = quantize_int8(quantize, queue);
  if (status != BNB_OK) return status;

  GemmInt8Args product{};
  product.a = codes.data();
  product.b = args.b;
  product.m = args.m;
  product.n = args.n;
  product.k = product.a_stride = args.k;
  product.b_stride = args.b_stride;
  product.dtype = args.dtype;
  product.row_stats = row_stats.data();
  product.col_stats = args.col_stats;
  product.bias_dtype = args.bias_dtype;
  product.bias = args.bias;
  product.x_dtype = args.dtype;
  product.x = args.a;
  product.x_stride = args.a_stride;
  product.outliers = outliers ? list_columns(marks.data(), args.k, columns.data()) : 0;
  product.outlier_cols = columns.data();
  product.out = args.out;
  product.out_stride = args.out_stride;
  return multiply_by_method(kernels->gemm_int8, product);
}

}  // namespace bnb::cpu
