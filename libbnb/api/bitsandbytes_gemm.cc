// SPDX-License-Identifier: MIT
// bitsandbytes' names for products: 4-bit, int8 and sparse. None is in this version: the symbols exist and say so. One
// that becomes real leaves its list here for a function of its own.
#include "api/bitsandbytes_call.h"

using namespace bnb::api;

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter"  // what cannot be done yet looks at nothing
#endif

#define BNB_DEFINE(name, ...) \
  bnb_status name(__VA_ARGS__) { return not_in_this_version(#name); }
BNB_DEFINE(cigemm, BNB_ARGS_IGEMM)
BNB_DEFINE(cbatched_igemm, BNB_ARGS_IGEMM, long strideA, long strideB, long strideC, int batchCount)
BNB_DEFINE(cspmm_coo, void *context, const int *A_rowidx, const int *A_colidx, const bnb_fp16 *A_vals, int A_nnz,
           int A_rows, int A_cols, int B_cols, int ldb, const bnb_fp16 *B, int ldc, bnb_fp16 *C, bool transposed_B)
BNB_DEFINE(cspmm_coo_very_sparse_naive_fp16, BNB_ARGS_SPMM_COO_NAIVE(bnb_fp16))
BNB_DEFINE(cspmm_coo_very_sparse_naive_int8, BNB_ARGS_SPMM_COO_NAIVE(int8_t))
#undef BNB_DEFINE

// bitsandbytes' own code for a product that a device does not have, on which its Python goes another way.
static constexpr int kIgemmNotImplemented = 100;

#define BNB_DEFINE(name)         \
  int name(BNB_ARGS_IGEMMLT) {   \
    not_in_this_version(#name);  \
    return kIgemmNotImplemented; \
  }
BNB_DEFINE(cigemmlt_32)
BNB_DEFINE(cigemmlt_8)
BNB_DEFINE(cigemmlt_8_rowscale)
#undef BNB_DEFINE
