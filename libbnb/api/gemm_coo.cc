// SPDX-License-Identifier: MIT
// cgemm_coo.
#include "api/gemm_coo.h"

namespace bnb::api {

GemmCooArgs check_coo(Check &check, const CooTensors &t) {
  GemmCooArgs args{};
  const uint32_t int32 = bit(DType::kI32), fp32 = bit(DType::kF32), numbers = kFloats | bit(DType::kI8);
  const View rows = check.input(t.names.rowidx, t.rowidx, int32);
  const View cols = check.input(t.names.colidx, t.colidx, int32);
  const View values = check.input(t.names.values, t.values, numbers);
  const View b = check.input("B", t.b, numbers, Layout::kStridedRows);
  const View o = check.output(t.names.out, t.out, kFloats, Layout::kStridedRows);
  check.rank(t.names.rowidx, rows, 1);
  check.rank(t.names.colidx, cols, 1);
  check.rank(t.names.values, values, 1);
  check.rank("B", b, 2);
  check.rank(t.names.out, o, 2);
  check.that(t.transposed_b == 0 || t.transposed_b == 1, "transposed_B is %d, must be 0 or 1", int(t.transposed_b));
  if (!check.ok()) return args;
  check.elements(t.names.rowidx, rows, values.n, "one per value");
  check.elements(t.names.colidx, cols, values.n, "one per value");
  const int64_t k = t.transposed_b ? b.cols() : b.rows(), n = t.transposed_b ? b.rows() : b.cols();
  check.that(o.cols() == n, "%s has shape [%lld, %lld], must have %lld columns as %sB, [%lld, %lld], has", t.names.out,
             (long long)o.rows(), (long long)o.cols(), (long long)n, t.transposed_b ? "the transposed " : "",
             (long long)b.rows(), (long long)b.cols());
  View scale, stats;
  if (t.values_scale) {
    scale = check.input("values_scale", t.values_scale, fp32);
    if (check.ok()) check.elements("values_scale", scale, 1, "one for all values");
  }
  if (t.col_stats && check.ok()) {
    stats = vector_of(check, t.names.col_stats, check.input(t.names.col_stats, t.col_stats, fp32), n, "one per column of out");
    check.that(b.dtype == DType::kI8, "%s belong to an int8 B, but it is %s", t.names.col_stats, dtype_name(b.dlpack_dtype));
  }
  if (!check.ok()) return args;
  return {rows.data, cols.data,    values.dtype, values.data,         scale.data, values.n, o.rows(), n,      k,
          b.dtype,   b.data,       b.row_stride, t.transposed_b == 1, stats.data, false,    o.dtype,  o.data, o.row_stride};
}

}  // namespace bnb::api

using namespace bnb;
using namespace bnb::api;

bnb_status cgemm_coo(const DLTensor *rowidx, const DLTensor *colidx, const DLTensor *values, const DLTensor *values_scale,
                     const DLTensor *B, const DLTensor *col_stats, int32_t transposed_B, DLTensor *out, void *stream) {
  Check check("cgemm_coo");
  const GemmCooArgs args = check_coo(check, {{}, rowidx, colidx, values, values_scale, B, col_stats, transposed_B, out});
  return check.run(&Backend::gemm_coo, args, stream);
}
