// SPDX-License-Identifier: MIT
// bitsandbytes' names for LLM.int8() quantization. Its matrices are fp16, compact.
#include "api/bitsandbytes_call.h"

using namespace bnb;
using namespace bnb::api;

namespace {

void check_threshold(Check &check, float threshold) {
  check.that(threshold >= 0.0f, "threshold is %g, must be 0 or above", double(threshold));  // NaN is not
}

bnb_status stats(const char *function, const bnb_fp16 *A, float *row_stats, float *col_stats, int *row_outliers,
                 float threshold, int rows, int cols, void *stream) {
  Check check(function);
  Pointers pointers(function, stream, {A, row_stats, col_stats, row_outliers});
  Bare a_tensor(pointers, DType::kF16, A, rows, cols), row_tensor(pointers, DType::kF32, row_stats, rows),
      col_tensor(pointers, DType::kF32, col_stats, cols);
  const int64_t counts = int64_t(rows) + 1;
  Bare outlier_tensor(pointers, DType::kI32, row_outliers, counts);
  const View a = check.input("A", a_tensor.get(), kFloats);
  check_threshold(check, threshold);
  const View r = check.output("row_stats", row_tensor.get(), bit(DType::kF32));
  View c, outliers;
  if (col_stats) c = check.output("col_stats", col_tensor.get(), bit(DType::kF32));
  if (row_outliers) outliers = check.output("nnz_count_row", outlier_tensor.get(), bit(DType::kI32));
  return pointers.finish(
      check.run(&Backend::int8_stats, {a.data, rows, cols, threshold, r.data, c.data, outliers.data}, stream));
}

}  // namespace

bnb_status cint8_vector_quant(const bnb_fp16 *A, int8_t *out, float *row_stats, float threshold, int rows, int cols,
                              void *stream) {
  Pointers pointers("cint8_vector_quant", stream, {A, out, row_stats});
  Bare a_tensor(pointers, DType::kF16, A, rows, cols), out_tensor(pointers, DType::kI8, out, rows, cols),
      row_tensor(pointers, DType::kF32, row_stats, rows);
  return pointers.finish(
      cquantize_int8_vectorwise(a_tensor.get(), threshold, out_tensor.get(), row_tensor.get(), nullptr, stream));
}

bnb_status cget_row_stats(const bnb_fp16 *A, float *row_stats, float threshold, int rows, int cols, void *stream) {
  return stats("cget_row_stats", A, row_stats, nullptr, nullptr, threshold, rows, cols, stream);
}

bnb_status cget_col_row_stats(const bnb_fp16 *A, float *row_stats, float *col_stats, int *nnz_count_row,
                              float threshold, int rows, int cols) {
  Check check("cget_col_row_stats");
  check.that(col_stats || cols <= 0, "col_stats is NULL, but A has %d columns", cols);
  if (!check.ok()) return check.finish();
  return stats("cget_col_row_stats", A, row_stats, col_stats, nnz_count_row, threshold, rows, cols, nullptr);
}

bnb_status cdouble_rowcol_quant(const bnb_fp16 *A, const float *row_stats, const float *col_stats, int8_t *out_col,
                                int8_t *out_row, int *rowidx, int *colidx, bnb_fp16 *val, const int *nnz_row_ptr,
                                float threshold, int rows, int cols) {
  Check check("cdouble_rowcol_quant");
  Pointers pointers("cdouble_rowcol_quant", nullptr,
                    {A, row_stats, col_stats, out_col, out_row, rowidx, colidx, val, nnz_row_ptr});
  Bare a_tensor(pointers, DType::kF16, A, rows, cols), row_tensor(pointers, DType::kF32, row_stats, rows),
      col_tensor(pointers, DType::kF32, col_stats, cols);
  Bare out_row_tensor(pointers, DType::kI8, out_row, rows, cols), out_col_tensor(pointers, DType::kI8, out_col, rows, cols);
  const View a = check.input("A", a_tensor.get(), kFloats);
  check_threshold(check, threshold);
  const View r = check.input("row_stats", row_tensor.get(), bit(DType::kF32));
  const View c = check.input("col_stats", col_tensor.get(), bit(DType::kF32));
  const View by_row = check.output("out_row", out_row_tensor.get(), bit(DType::kI8));
  const View by_col = check.output("out_col", out_col_tensor.get(), bit(DType::kI8));
  QuantizeInt8SparseArgs args{"cdouble_rowcol_quant",
                              a.data,
                              rows,
                              cols,
                              threshold,
                              r.data,
                              c.data,
                              static_cast<int8_t *>(by_row.data),
                              static_cast<int8_t *>(by_col.data),
                              nullptr,
                              nullptr,
                              nullptr,
                              nullptr};
  const bool sparse = threshold > 0.0f && (nnz_row_ptr || rowidx || colidx || val);
  check.that(!sparse || nnz_row_ptr, "nnz_row_ptr is NULL, but there are buffers for outliers");
  if (!sparse || !check.ok()) return pointers.finish(check.run(&Backend::quantize_int8_sparse, args, nullptr));

  int32_t nnz = 0;  // the operation compares it with A before it writes
  const bnb_status status = pointers.read(&nnz, nnz_row_ptr + rows, sizeof nnz);
  if (status != BNB_OK) return pointers.finish(status);
  Bare offsets_tensor(pointers, DType::kI32, nnz_row_ptr, int64_t(rows) + 1);
  Bare rowidx_tensor(pointers, DType::kI32, rowidx, nnz), colidx_tensor(pointers, DType::kI32, colidx, nnz),
      val_tensor(pointers, DType::kF16, val, nnz);
  check.that(nnz >= 0, "nnz_row_ptr[%d] is %d, must be the number of outliers", rows, int(nnz));
  args.row_offsets = check.input("nnz_row_ptr", offsets_tensor.get(), bit(DType::kI32)).data;
  args.row_indices = check.output("rowidx", rowidx_tensor.get(), bit(DType::kI32)).data;
  args.col_indices = check.output("colidx", colidx_tensor.get(), bit(DType::kI32)).data;
  args.values = check.output("val", val_tensor.get(), bit(DType::kF16)).data;
  return pointers.finish(check.run(&Backend::quantize_int8_sparse, args, nullptr));
}

bnb_status cdequant_mm_int32_fp16(const int *A, const float *row_stats, const float *col_stats, bnb_fp16 *out,
                                  const bnb_fp16 *bias, int rows, int cols, void *stream) {
  Pointers pointers("cdequant_mm_int32_fp16", stream, {A, row_stats, col_stats, out, bias});
  Bare a_tensor(pointers, DType::kI32, A, rows, cols), row_tensor(pointers, DType::kF32, row_stats, rows),
      col_tensor(pointers, DType::kF32, col_stats, cols), bias_tensor(pointers, DType::kF16, bias, cols),
      out_tensor(pointers, DType::kF16, out, rows, cols);
  return pointers.finish(cdequantize_int8_mm(a_tensor.get(), row_tensor.get(), col_tensor.get(), bias ? bias_tensor.get() : nullptr,
                                             out_tensor.get(), stream));
}
