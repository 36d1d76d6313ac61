// SPDX-License-Identifier: MIT
// cgemm_int8, cgemm_int8_scaled, cgemm_int8_mixed and clinear_int8.
#include "api/gemm_int8.h"

namespace bnb::api {

void check_products(Check &check, const char *name, int64_t k) {
  constexpr int64_t kMost = INT32_MAX / (128 * 128);
  check.that(k <= kMost, "%s has %lld columns, must have at most %lld: sums of more products need not fit in int32", name,
             (long long)k, (long long)kMost);
}

}  // namespace bnb::api

using namespace bnb;
using namespace bnb::api;

namespace {

// out [M, N] is that of rows a [M, K] and weights b [N, K].
void check_shapes(Check &check, const char *a_name, const View &a, const char *b_name, const View &b, const View &out) {
  check.rank(a_name, a, 2);
  check.rank(b_name, b, 2);
  check.rank("out", out, 2);
  if (!check.ok()) return;
  check.that(b.cols() == a.cols(), "%s has shape [%lld, %lld], must have %lld columns as %s, [%lld, %lld], has", b_name,
             (long long)b.rows(), (long long)b.cols(), (long long)a.cols(), a_name, (long long)a.rows(), (long long)a.cols());
  check.that(out.rows() == a.rows() && out.cols() == b.rows(),
             "out has shape [%lld, %lld], must have [%lld, %lld], the rows of %s by those of %s", (long long)out.rows(),
             (long long)out.cols(), (long long)a.rows(), (long long)b.rows(), a_name, b_name);
  check_products(check, a_name, a.cols());
}

// The int8 operands and out. If it is not ok, neither is the check.
GemmInt8Args check_product(Check &check, const char *a_name, const DLTensor *A, const char *b_name, const DLTensor *B, DLTensor *out,
                           uint32_t out_dtypes) {
  GemmInt8Args args{};
  const View a = check.input(a_name, A, bit(DType::kI8), Layout::kStridedRows);
  const View b = check.input(b_name, B, bit(DType::kI8), Layout::kStridedRows);
  const View o = check.output("out", out, out_dtypes, Layout::kStridedRows);
  check_shapes(check, a_name, a, b_name, b, o);
  if (!check.ok()) return args;
  args.a = static_cast<const int8_t *>(a.data);
  args.b = static_cast<const int8_t *>(b.data);
  args.m = a.rows();
  args.n = b.rows();
  args.k = a.cols();
  args.a_stride = a.row_stride;
  args.b_stride = b.row_stride;
  args.dtype = o.dtype;
  args.out = o.data;
  args.out_stride = o.row_stride;
  return args;
}

View check_bias(Check &check, const DLTensor *bias, int64_t n) {
  if (!bias || !check.ok()) return View{};
  return vector_of(check, "bias", check.input("bias", bias, kFloats), n, "one per column of out");
}

void check_stats(Check &check, const DLTensor *row_stats, const DLTensor *col_stats, const DLTensor *bias, GemmInt8Args *args) {
  if (!check.ok()) return;
  const uint32_t fp32 = bit(DType::kF32);
  args->row_stats =
      vector_of(check, "row_stats", check.input("row_stats", row_stats, fp32), args->m, "one per row of out").data;
  args->col_stats =
      vector_of(check, "col_stats", check.input("col_stats", col_stats, fp32), args->n, "one per column of out").data;
  const View b = check_bias(check, bias, args->n);
  args->bias_dtype = b.dtype;
  args->bias = b.data;
}

}  // namespace

bnb_status cgemm_int8(const DLTensor *A, const DLTensor *B, DLTensor *out, void *stream) {
  Check check("cgemm_int8");
  const GemmInt8Args args = check_product(check, "A", A, "B", B, out, bit(DType::kI32));
  return check.run(&Backend::gemm_int8, args, stream);
}

bnb_status cgemm_int8_scaled(const DLTensor *A, const DLTensor *B, const DLTensor *row_stats, const DLTensor *col_stats,
                             const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cgemm_int8_scaled");
  GemmInt8Args args = check_product(check, "A", A, "B", B, out, kFloats);
  check_stats(check, row_stats, col_stats, bias, &args);
  return check.run(&Backend::gemm_int8, args, stream);
}

bnb_status cgemm_int8_mixed(const DLTensor *A, const DLTensor *CA, const DLTensor *CB, const DLTensor *row_stats,
                            const DLTensor *col_stats, const DLTensor *outlier_cols, const DLTensor *bias, DLTensor *out,
                            void *stream) {
  Check check("cgemm_int8_mixed");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  check.rank("A", a, 2);
  GemmInt8Args args = check_product(check, "CA", CA, "CB", CB, out, kFloats);
  if (check.ok()) {
    check.that(a.rows() == args.m && a.cols() == args.k, "A has shape [%lld, %lld], must have that of CA, [%lld, %lld]",
               (long long)a.rows(), (long long)a.cols(), (long long)args.m, (long long)args.k);
  }
  check_stats(check, row_stats, col_stats, bias, &args);
  if (outlier_cols && check.ok()) {
    const View columns = check.input("outlier_cols", outlier_cols, bit(DType::kI64));
    check.rank("outlier_cols", columns, 1);
    check.that(columns.n <= args.k, "outlier_cols has %lld elements, more than A has columns, %lld", (long long)columns.n,
               (long long)args.k);
    args.x_dtype = a.dtype;
    args.x = a.data;
    args.x_stride = a.row_stride;
    args.outliers = columns.n;
    args.outlier_cols = columns.data;
  }
  return check.run(&Backend::gemm_int8, args, stream);
}

bnb_status clinear_int8(const DLTensor *A, const DLTensor *CB, const DLTensor *SCB, float threshold, const DLTensor *bias,
                        DLTensor *out, void *stream) {
  Check check("clinear_int8");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  const View b = check.input("CB", CB, bit(DType::kI8), Layout::kStridedRows);
  const View o = check.output("out", out, kFloats, Layout::kStridedRows);
  check_shapes(check, "A", a, "CB", b, o);
  check.that(threshold >= 0.0f, "threshold is %g, must be 0 or above", double(threshold));  // NaN is not
  if (!check.ok()) return check.finish();
  check.that(a.dtype == o.dtype, "out is %s, must be %s as A is", dtype_name(o.dlpack_dtype), dtype_name(a.dlpack_dtype));
  const View stats = vector_of(check, "SCB", check.input("SCB", SCB, bit(DType::kF32)), b.rows(), "one per row of CB");
  const View bias_view = check_bias(check, bias, b.rows());
  return check.run(&Backend::linear_int8,
                   {a.dtype, a.data, static_cast<const int8_t *>(b.data), a.rows(), b.rows(), a.cols(), a.row_stride, b.row_stride,
                    stats.data, threshold, bias_view.dtype, bias_view.data, o.data, o.row_stride},
                   stream);
}
