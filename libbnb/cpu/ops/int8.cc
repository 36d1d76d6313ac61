// SPDX-License-Identifier: MIT
// LLM.int8() quantization on the CPU.
#include <cstring>

#include "cpu/ops/quantize.h"

namespace bnb::cpu {
namespace {

// Writes col_stats. A thread takes columns that lie beside each other, the more the better for its reads of memory, but
// leaves some for the others.
void all_col_stats(const Kernels &kernels, const QuantizeInt8Args &args) {
  constexpr int64_t kLineOfColumns = 64, kWidest = 4096;
  const int64_t share = ceil_div(ceil_div(args.cols, bnb_get_num_threads()), kLineOfColumns) * kLineOfColumns;
  parallel_for(args.cols, args.rows * float_size(args.dtype), share < kWidest ? share : kWidest,
               [&](int64_t begin, int64_t end) { kernels.int8_col_stats(args, begin, end); });
}

// Zeros in the marked columns of `out`. Few of them are written one by one; for many, every line is touched anyway.
void drop_columns(const QuantizeInt8Args &args) {
  constexpr int64_t kItemsOfLine = 64;
  int64_t marked = 0;
  for (int64_t col = 0; col < args.cols; ++col) marked += args.outlier_cols[col];
  if (marked == 0) return;
  parallel_for(args.rows, args.cols, 1, [&](int64_t begin, int64_t end) {
    if (marked < args.cols / kItemsOfLine) {
      for (int64_t col = 0; col < args.cols; ++col) {
        for (int64_t row = begin; args.outlier_cols[col] && row < end; ++row) args.out[row * args.cols + col] = 0;
      }
    } else {
      for (int64_t row = begin; row < end; ++row) {
        int8_t *out = args.out + row * args.cols;
        for (int64_t col = 0; col < args.cols; ++col) out[col] = int8_t(out[col] & (args.outlier_cols[col] - 1));
      }
    }
  });
}

}  // namespace

bnb_status quantize_int8(const QuantizeInt8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.outlier_cols) std::memset(args.outlier_cols, 0, size_t(args.cols));
  if (args.col_stats) all_col_stats(*kernels, args);  // out_col may be NULL for want of rows

  // Rows are read once more while they are in the cache. All of them have to be seen before it is known which columns
  // are to be dropped: that is done in the end, in `out`.
  const int64_t out_bytes = args.out_col ? 2 : 1, step = rows_together(args);
  parallel_for(args.rows, args.cols * (float_size(args.dtype) + out_bytes), 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += step) {
      const int64_t last = end - first < step ? end : first + step;
      kernels->int8_row_stats(args, first, last);
      kernels->int8_quantize_rows(args, first, last);
      if (args.out_col) kernels->int8_quantize_cols(args, first, last);
    }
  });
  if (args.outlier_cols && args.threshold > 0.0f) drop_columns(args);
  return BNB_OK;
}

bnb_status dequantize_int8(const DequantizeInt8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.rows, args.cols * (float_size(args.dtype) + 1), 1,
               [&](int64_t begin, int64_t end) { kernels->dequantize_int8(args, begin, end); });
  return BNB_OK;
}

bnb_status dequantize_int8_mm(const DequantizeInt8MmArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.rows, args.cols * (float_size(args.dtype) + 4), 1,
               [&](int64_t begin, int64_t end) { kernels->dequantize_int8_mm(args, begin, end); });
  return BNB_OK;
}

}  // namespace bnb::cpu
