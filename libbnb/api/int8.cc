// SPDX-License-Identifier: MIT
// cquantize_int8_vectorwise, cquantize_int8_double, cdequantize_int8_vectorwise and cdequantize_int8_mm.
#include "api/check.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// What both quantizers share: A, the outputs by row, the outlier columns.
QuantizeInt8Args check_rows(Check &check, const DLTensor *A, float threshold, const char *out_name, DLTensor *out,
                            DLTensor *row_stats, DLTensor *outlier_cols) {
  QuantizeInt8Args args{};
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  check.rank("A", a, 2);
  check.that(threshold >= 0.0f, "threshold is %g, must be 0 or above", double(threshold));  // NaN is not
  const View o = check.output(out_name, out, bit(DType::kI8));
  check.same_shape(out_name, o, "A", a);
  if (!check.ok()) return args;
  const View stats = vector_of(check, "row_stats", check.output("row_stats", row_stats, bit(DType::kF32)), a.rows(),
                               "one per row of A");
  View outliers;
  if (outlier_cols) {
    outliers = vector_of(check, "outlier_cols", check.output("outlier_cols", outlier_cols, bit(DType::kU8)), a.cols(),
                         "one per column of A");
  }
  args.dtype = a.dtype;
  args.a = a.data;
  args.rows = a.rows();
  args.cols = a.cols();
  args.row_stride = a.row_stride;
  args.threshold = threshold;
  args.out = static_cast<int8_t *>(o.data);
  args.row_stats = stats.data;
  args.outlier_cols = static_cast<uint8_t *>(outliers.data);
  return args;
}

}  // namespace

bnb_status cquantize_int8_vectorwise(const DLTensor *A, float threshold, DLTensor *out, DLTensor *row_stats,
                                     DLTensor *outlier_cols, void *stream) {
  Check check("cquantize_int8_vectorwise");
  const QuantizeInt8Args args = check_rows(check, A, threshold, "out", out, row_stats, outlier_cols);
  return check.run(&Backend::quantize_int8, args, stream);
}

bnb_status cquantize_int8_double(const DLTensor *A, float threshold, DLTensor *out_row, DLTensor *out_col,
                                 DLTensor *row_stats, DLTensor *col_stats, DLTensor *outlier_cols, void *stream) {
  Check check("cquantize_int8_double");
  QuantizeInt8Args args = check_rows(check, A, threshold, "out_row", out_row, row_stats, outlier_cols);
  if (check.ok()) {
    const View o = check.output("out_col", out_col, bit(DType::kI8));
    check.rank("out_col", o, 2);
    check.that(!check.ok() || (o.rows() == args.rows && o.cols() == args.cols), "out_col must have the shape of A");
    const View stats = vector_of(check, "col_stats", check.output("col_stats", col_stats, bit(DType::kF32)), args.cols,
                                 "one per column of A");
    args.out_col = static_cast<int8_t *>(o.data);
    args.col_stats = stats.data;
  }
  return check.run(&Backend::quantize_int8, args, stream);
}

bnb_status cdequantize_int8_vectorwise(const DLTensor *A, const DLTensor *row_stats, DLTensor *out, void *stream) {
  Check check("cdequantize_int8_vectorwise");
  const View a = check.input("A", A, bit(DType::kI8), Layout::kStridedRows);
  check.rank("A", a, 2);
  const View o = check.output("out", out, kFloats);
  check.same_shape("out", o, "A", a);
  if (!check.ok()) return check.finish();
  const View stats = vector_of(check, "row_stats", check.input("row_stats", row_stats, bit(DType::kF32)), a.rows(),
                               "one per row of A");
  return check.run(&Backend::dequantize_int8,
                   {o.dtype, static_cast<const int8_t *>(a.data), a.rows(), a.cols(), a.row_stride, stats.data, o.data},
                   stream);
}

bnb_status cdequantize_int8_mm(const DLTensor *A, const DLTensor *row_stats, const DLTensor *col_stats,
                               const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cdequantize_int8_mm");
  const View a = check.input("A", A, bit(DType::kI32));
  check.rank("A", a, 2);
  const View o = check.output("out", out, kFloats);
  check.same_shape("out", o, "A", a);
  if (!check.ok()) return check.finish();
  const View rows = vector_of(check, "row_stats", check.input("row_stats", row_stats, bit(DType::kF32)), a.rows(),
                              "one per row of A");
  const View cols = vector_of(check, "col_stats", check.input("col_stats", col_stats, bit(DType::kF32)), a.cols(),
                              "one per column of A");
  View b;
  if (bias) b = vector_of(check, "bias", check.input("bias", bias, kFloats), a.cols(), "one per column of A");
  return check.run(&Backend::dequantize_int8_mm,
                   {o.dtype, a.data, a.rows(), a.cols(), rows.data, cols.data, b.dtype, b.data, o.data}, stream);
}
