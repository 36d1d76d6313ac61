// SPDX-License-Identifier: MIT
// LLM.int8() quantization on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kThreads = 256;  // as in the kernels
constexpr int64_t kWide = 1024;    // columns: fewer than this do not need all threads of a threadgroup

uint64_t float_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Threadgroups by strips of kThreads columns, and as many slices of rows as fill the device.
Grid by_columns(const Commands &commands, kernels::Int8Args *args) {
  args->strips = ceil_div(args->cols, kThreads);
  args->slices = 1;
  if (args->strips == 0) return {0, int(kThreads)};
  const int64_t rows_of_slice = 16, most = ceil_div(args->rows, rows_of_slice), fill = ceil_div(commands.traits().groups, args->strips);
  args->slices = most < 1 ? 1 : most < fill ? most : fill;
  return {args->strips * args->slices, int(kThreads)};
}

}  // namespace

bnb_status quantize_int8(const QuantizeInt8Args &args, Queue queue) {
  Commands commands(queue);
  const bool marks = args.outlier_cols && args.threshold > 0.0f;
  const int64_t mark_words = marks ? ceil_div(args.cols, 32) : 0, maxima_words = args.col_stats ? args.cols : 0;
  const Workspace words(queue, size_t(mark_words + maxima_words) * sizeof(uint32_t));
  commands.need(words.status());
  const Place marks_place{words.buffer(), 0}, maxima_place{words.buffer(), uint64_t(mark_words) * sizeof(uint32_t)};
  const int64_t all_words = mark_words + maxima_words;
  commands.run({"blocks", "clear_words"}, {commands.groups_for(ceil_div(all_words, kQuantizeThreads)), kQuantizeThreads}, all_words, words);
  if (args.outlier_cols && !marks) clear_bytes(commands, args.outlier_cols, args.cols);

  kernels::Int8Args kernel_args{};
  kernel_args.rows = args.rows;
  kernel_args.cols = args.cols;
  kernel_args.row_stride = args.row_stride;
  kernel_args.threshold_bits = args.threshold > 0.0f ? formats::bits_from_float(args.threshold) : 0;
  kernel_args.marks = marks;
  kernel_args.wide = args.cols > kWide;
  kernel_args.aligned_in = commands.aligned(float_bytes(args.dtype), args.a);
  kernel_args.aligned_stats = commands.aligned(4, args.row_stats, args.col_stats);
  const Grid columns = by_columns(commands, &kernel_args);
  const int64_t row_groups = kernel_args.wide ? args.rows : ceil_div(args.rows, kThreads / kSimdWidth);
  commands.run({"int8", "quantize_int8_rows", args.dtype}, {commands.groups_for(row_groups), int(kThreads)}, kernel_args, args.a,
               args.row_stats, args.out, marks_place);
  if (args.col_stats) {
    commands.run({"int8", "measure_int8_cols", args.dtype}, columns, kernel_args, args.a, maxima_place);
    commands.run({"int8", "quantize_int8_cols", args.dtype}, columns, kernel_args, args.a, maxima_place, args.col_stats, args.out_col);
  }
  if (marks) commands.run({"int8", "drop_int8_cols"}, columns, kernel_args, marks_place, args.outlier_cols, args.out);
  return commands.commit();
}

bnb_status dequantize_int8(const DequantizeInt8Args &args, Queue queue) {
  Commands commands(queue);
  kernels::Int8Args kernel_args{};
  kernel_args.rows = args.rows;
  kernel_args.cols = args.cols;
  kernel_args.row_stride = args.row_stride;
  kernel_args.aligned_out = commands.aligned(float_bytes(args.dtype), args.out);
  kernel_args.aligned_stats = commands.aligned(4, args.row_stats);
  commands.run({"int8", "dequantize_int8", args.dtype}, {commands.groups_for(args.rows), int(kThreads)}, kernel_args, args.a,
               args.row_stats, args.out);
  return commands.commit();
}

bnb_status dequantize_int8_mm(const DequantizeInt8MmArgs &args, Queue queue) {
  Commands commands(queue);
  kernels::Int8MmArgs kernel_args{};
  kernel_args.rows = args.rows;
  kernel_args.cols = args.cols;
  kernel_args.bias = bias_args(commands, args.bias_dtype, args.bias);
  kernel_args.aligned_in = commands.aligned(4, args.a);
  kernel_args.aligned_out = commands.aligned(float_bytes(args.dtype), args.out);
  kernel_args.aligned_stats = commands.aligned(4, args.row_stats, args.col_stats);
  commands.run({"int8", "dequantize_int8_mm", args.dtype}, {commands.groups_for(args.rows), int(kThreads)}, kernel_args, args.a,
               args.row_stats, args.col_stats, args.bias, args.out);
  return commands.commit();
}

}  // namespace bnb::metal
