// SPDX-License-Identifier: MIT
// LLM.int8() quantization on the CPU.
#include <cstring>

#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

constexpr int64_t kColumnsPerStrip = 64;

}  // namespace

bnb_status quantize_int8(const QuantizeInt8Args &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const int64_t row_bytes = args.cols * (float_size(args.dtype) + 1);
  if (args.outlier_cols) std::memset(args.outlier_cols, 0, size_t(args.cols));

  if (args.outlier_cols && args.threshold > 0.0f) {  // all rows must have spoken before the first can be written
    parallel_for(args.rows, row_bytes, 1, [&](int64_t begin, int64_t end) { kernels->int8_row_stats(args, begin, end); });
    parallel_for(args.rows, row_bytes, 1,
                 [&](int64_t begin, int64_t end) { kernels->int8_quantize_rows(args, begin, end); });
  } else {  // a row is still in the cache when its scale is known
    parallel_for(args.rows, row_bytes, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        kernels->int8_row_stats(args, row, row + 1);
        kernels->int8_quantize_rows(args, row, row + 1);
      }
    });
  }

  if (args.out_col) {
    parallel_for(args.cols, args.rows * float_size(args.dtype), kColumnsPerStrip,
                 [&](int64_t begin, int64_t end) { kernels->int8_col_stats(args, begin, end); });
    parallel_for(args.rows, row_bytes, 1,
                 [&](int64_t begin, int64_t end) { kernels->int8_quantize_cols(args, begin, end); });
  }
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
