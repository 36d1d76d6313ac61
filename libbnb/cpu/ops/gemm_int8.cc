// SPDX-License-Identifier: MIT
// int8 products on the CPU: the first method of the table that fits, and LLM.int8() around it.
#include "core/linear_int8.h"
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

  const bnb_status status = quantize_int8(rows_of_layer(args, codes.data(), row_stats.data(), marks.data()), queue);
  if (status != BNB_OK) return status;

  GemmInt8Args product = product_of_layer(args, codes.data(), row_stats.data(), columns.data());
  product.outliers = outliers ? list_columns(marks.data(), args.k, columns.data()) : 0;
  return multiply_by_method(kernels->gemm_int8, product);
}

}  // namespace bnb::cpu
