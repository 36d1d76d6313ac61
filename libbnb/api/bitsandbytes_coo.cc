// SPDX-License-Identifier: MIT
// bitsandbytes' names for sparse products.
#include "api/bitsandbytes_call.h"
#include "api/gemm_coo.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// out += S B for the very sparse S that LLM.int8() had for outliers; B compact.
bnb_status add_product(const char *function, const int *rowidx, const int *colidx, const bnb_fp16 *values, DType dtype,
                       const void *B, bnb_fp16 *out, const float *dequant_stats, int nnz, int rowsA, int rowsB, int colsB) {
  Check check(function);
  Pointers pointers(function, nullptr, {rowidx, colidx, values, B, out, dequant_stats});
  Bare rows(pointers, DType::kI32, rowidx, nnz), cols(pointers, DType::kI32, colidx, nnz), vals(pointers, DType::kF16, values, nnz),
      b(pointers, dtype, B, rowsB, colsB), o(pointers, DType::kF16, out, rowsA, colsB),
      stats(pointers, DType::kF32, dequant_stats, colsB);
  GemmCooArgs args = check_coo(check, {{"rowidx", "colidx", "values", "dequant_stats", "out"}, rows.get(), cols.get(), vals.get(),
                                       nullptr, b.get(), dequant_stats ? stats.get() : nullptr, 0, o.get()});
  args.accumulate = true;
  return pointers.finish(check.run(&Backend::gemm_coo, args, nullptr));
}

}  // namespace

bnb_status cspmm_coo(void *, const int *A_rowidx, const int *A_colidx, const bnb_fp16 *A_vals, int A_nnz, int A_rows, int A_cols,
                     int B_cols, int ldb, const bnb_fp16 *B, int ldc, bnb_fp16 *C, bool transposed_B) {
  Check check("cspmm_coo");
  Pointers pointers("cspmm_coo", nullptr, {A_rowidx, A_colidx, A_vals, B, C});
  Bare rows(pointers, DType::kI32, A_rowidx, A_nnz), cols(pointers, DType::kI32, A_colidx, A_nnz),
      vals(pointers, DType::kF16, A_vals, A_nnz);
  Bare b(pointers, DType::kF16, B, transposed_B ? B_cols : A_cols, transposed_B ? A_cols : B_cols, ldb);
  Bare c(pointers, DType::kF16, C, A_rows, B_cols, ldc);
  const GemmCooArgs args = check_coo(check, {{"A_rowidx", "A_colidx", "A_vals", "", "C"}, rows.get(), cols.get(), vals.get(),
                                             nullptr, b.get(), nullptr, transposed_B, c.get()});
  return pointers.finish(check.run(&Backend::gemm_coo, args, nullptr));
}

// The first three arguments say how bitsandbytes shares out the rows; there are as many sums without them.
bnb_status cspmm_coo_very_sparse_naive_fp16(const int *, const int *, const int *, const int *rowidx, const int *colidx,
                                            const bnb_fp16 *values, const bnb_fp16 *B, bnb_fp16 *out, const float *, int, int nnz,
                                            int rowsA, int rowsB, int colsB) {
  return add_product("cspmm_coo_very_sparse_naive_fp16", rowidx, colidx, values, DType::kF16, B, out, nullptr, nnz, rowsA, rowsB,
                     colsB);
}

bnb_status cspmm_coo_very_sparse_naive_int8(const int *, const int *, const int *, const int *rowidx, const int *colidx,
                                            const bnb_fp16 *values, const int8_t *B, bnb_fp16 *out, const float *dequant_stats,
                                            int, int nnz, int rowsA, int rowsB, int colsB) {
  return add_product("cspmm_coo_very_sparse_naive_int8", rowidx, colidx, values, DType::kI8, B, out, dequant_stats, nnz, rowsA,
                     rowsB, colsB);
}
