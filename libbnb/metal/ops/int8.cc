// SPDX-License-Identifier: MIT
// LLM.int8() quantization on Metal.
#include "metal/int8.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kThreads = 256;  // as in the kernels
constexpr int64_t kWide = 1024;    // columns: fewer than this do not need all threads of a threadgroup

// Threadgroups by strips of kThreads columns, and as many slices of rows as fill the device.
Grid by_columns(const Commands &commands, kernels::Int8Args *args) {
  args->strips = ceil_div(args->cols, kThreads);
  args->slices = 1;
  if (args->strips == 0) return {0, int(kThreads)};
  const int64_t rows_of_slice = 16, most = ceil_div(args->rows, rows_of_slice), fill = ceil_div(commands.traits().groups, args->strips);
  args->slices = most < 1 ? 1 : most < fill ? most : fill;
  return {args->strips * args->slices, int(kThreads)};
}

// A compact matrix of fp16, as bitsandbytes' functions have it.
kernels::Int8Args fp16_args(const Commands &commands, const void *a, int64_t rows, int64_t cols, float threshold) {
  Int8Rows matrix{};
  matrix.dtype = DType::kF16;
  matrix.a = commands.place(a);
  matrix.rows = rows;
  matrix.cols = matrix.row_stride = cols;
  matrix.threshold = threshold;
  return int8_args(commands, matrix);
}

}  // namespace

kernels::Int8Args int8_args(const Commands &commands, const Int8Rows &rows) {
  kernels::Int8Args args{};
  args.rows = rows.rows;
  args.cols = rows.cols;
  args.row_stride = rows.row_stride;
  args.threshold_bits = rows.threshold > 0.0f ? formats::bits_from_float(rows.threshold) : 0;
  args.marks = rows.drops;
  args.wide = rows.cols > kWide;
  args.aligned_in = commands.aligned(float_bytes(rows.dtype), rows.a);
  args.aligned_stats = commands.aligned(4, rows.row_stats);
  args.writes_cols = rows.outlier_cols.buffer != nullptr;
  return args;
}

void clear_words(Commands &commands, const Place &words, int64_t count) {
  commands.run({"blocks", "clear_words"}, {commands.groups_for(ceil_div(count, kQuantizeThreads)), kQuantizeThreads}, count, words);
}

void quantize_rows(Commands &commands, const Int8Rows &rows) {
  const kernels::Int8Args args = int8_args(commands, rows);
  const int64_t groups = args.wide ? args.rows : ceil_div(args.rows, kThreads / kSimdWidth);
  commands.run({"int8", "quantize_int8_rows", rows.dtype}, {commands.groups_for(groups), int(kThreads)}, args, rows.a, rows.row_stats,
               rows.out, rows.marks);
}

void drop_outliers(Commands &commands, const Int8Rows &rows) {
  kernels::Int8Args args = int8_args(commands, rows);
  const Grid columns = by_columns(commands, &args);
  commands.run({"int8", "drop_int8_cols"}, columns, args, rows.marks, rows.outlier_cols, rows.out);
}

void quantize_tensor(Commands &commands, const Int8Rows &rows) {
  kernels::Int8Args args = int8_args(commands, rows);
  const Grid columns = by_columns(commands, &args);
  commands.run({"int8", "measure_int8_tensor", rows.dtype}, columns, args, rows.a, rows.marks);
  // Without columns there is a statistic all the same.
  if (columns.groups == 0) args.strips = 1;
  commands.run({"int8", "quantize_int8_tensor", rows.dtype}, {columns.groups == 0 ? 1 : columns.groups, int(kThreads)}, args, rows.a,
               rows.marks, rows.row_stats, rows.out);
}

bnb_status quantize_int8(const QuantizeInt8Args &args, Queue queue) {
  Commands commands(queue);
  const bool marks = args.outlier_cols && args.threshold > 0.0f;
  const int64_t mark_words = marks ? ceil_div(args.cols, 32) : 0, maxima_words = args.col_stats ? args.cols : 0;
  const Workspace words(queue, size_t(mark_words + maxima_words) * sizeof(uint32_t));
  commands.need(words.status());
  const Place marks_place{words.buffer(), 0}, maxima_place{words.buffer(), uint64_t(mark_words) * sizeof(uint32_t)};
  clear_words(commands, marks_place, mark_words + maxima_words);
  if (args.outlier_cols && !marks) clear_bytes(commands, args.outlier_cols, args.cols);

  const Int8Rows rows{args.dtype, commands.place(args.a), args.rows, args.cols, args.row_stride, args.threshold, commands.place(args.out),
                      commands.place(args.row_stats), marks_place, marks, commands.place(args.outlier_cols)};
  quantize_rows(commands, rows);
  if (args.col_stats) {
    kernels::Int8Args kernel_args = int8_args(commands, rows);
    kernel_args.aligned_stats = commands.aligned(4, args.col_stats);
    const Grid columns = by_columns(commands, &kernel_args);
    commands.run({"int8", "measure_int8_cols", args.dtype}, columns, kernel_args, args.a, maxima_place);
    commands.run({"int8", "quantize_int8_cols", args.dtype}, columns, kernel_args, args.a, maxima_place, args.col_stats, args.out_col);
  }
  if (marks) drop_outliers(commands, rows);
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

bnb_status int8_stats(const Int8StatsArgs &args, Queue queue) {
  Commands commands(queue);
  const int64_t words = args.col_stats ? args.cols : 0;
  const Workspace maxima(queue, size_t(words) * sizeof(uint32_t));
  commands.need(maxima.status());
  kernels::Int8Args kernel_args = fp16_args(commands, args.a, args.rows, args.cols, args.threshold);
  kernel_args.marks = args.row_outliers != nullptr;
  kernel_args.aligned_stats = commands.aligned(4, args.row_stats, args.col_stats);
  const Grid columns = by_columns(commands, &kernel_args), over_words{commands.groups_for(ceil_div(words, kThreads)), int(kThreads)};
  const int64_t row_groups = kernel_args.wide ? args.rows : ceil_div(args.rows, kThreads / kSimdWidth);
  commands.run({"int8_sparse", "measure_int8_rows"}, {commands.groups_for(row_groups > 0 ? row_groups : 1), int(kThreads)}, kernel_args,
               args.a, args.row_stats, args.row_outliers);
  if (args.col_stats) {
    clear_words(commands, commands.place(maxima), words);
    commands.run({"int8", "measure_int8_cols", DType::kF16}, columns, kernel_args, args.a, maxima);
    commands.run({"int8_sparse", "store_int8_maxima"}, over_words, kernel_args, maxima, args.col_stats);
  }
  return commands.commit();
}

bnb_status quantize_int8_sparse(const QuantizeInt8SparseArgs &args, Queue queue) {
  Commands commands(queue);
  if (args.rows == 0 || args.cols == 0) return commands.commit();
  kernels::Int8Args kernel_args = fp16_args(commands, args.a, args.rows, args.cols, args.threshold);
  kernel_args.aligned_stats = commands.aligned(4, args.row_stats, args.col_stats);
  const Grid columns = by_columns(commands, &kernel_args);
  commands.run({"int8_sparse", "encode_int8"}, columns, kernel_args, args.a, args.row_stats, args.col_stats, args.out_row, args.out_col);
  if (!args.row_offsets) return commands.commit();
  const kernels::OutlierArgs outliers{kernel_args, commands.aligned(4, args.row_offsets),
                                      commands.aligned(4, args.row_indices, args.col_indices), commands.aligned(2, args.values), 0};
  commands.run({"int8_sparse", "write_outliers"}, {commands.groups_for(ceil_div(args.rows, kThreads / kSimdWidth)), int(kThreads)},
               outliers, args.a, args.row_offsets, args.row_indices, args.col_indices, args.values);
  return commands.commit();
}

}  // namespace bnb::metal
