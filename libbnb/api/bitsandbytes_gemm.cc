// SPDX-License-Identifier: MIT
// bitsandbytes' names for products: 4-bit, int8 and sparse. None is in this version: the symbols exist and say so. One
// that becomes real leaves its list here for a function of its own.
#include "api/bitsandbytes_call.h"

using namespace bnb::api;

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter"  // what cannot be done yet looks at nothing
#endif

#define BNB_DEFINE(family, suffix, T) \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT(T)) { return not_in_this_version(#family "_" #suffix); }
BNB_FLOATS(BNB_DEFINE, cgemm_4bit)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T) \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT_INFERENCE(T)) { return not_in_this_version(#family "_" #suffix); }
BNB_FLOATS(BNB_DEFINE, cgemm_4bit_inference_naive)
BNB_FLOATS(BNB_DEFINE, cgemv_4bit_inference)
#undef BNB_DEFINE

#define BNB_DEFINE(name, ...) \
  bnb_status name(__VA_ARGS__) { return not_in_this_version(#name); }
BNB_DEFINE(cgemm_4bit_inference, int m, int n, int k, const bnb_fp16 *A, const uint8_t *B, const float *absmax,
           bnb_fp16 *out, int lda, int ldb, int ldc, int blocksize)
BNB_DEFINE(gemv_4bit_inference_cpu_fp4_bf16, BNB_ARGS_GEMV_4BIT_CPU)
BNB_DEFINE(gemv_4bit_inference_cpu_nf4_bf16, BNB_ARGS_GEMV_4BIT_CPU)
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

// Programs that are told yes call gemv_4bit_inference_cpu_*_bf16 and trust it to have worked.
bool has_avx512bf16_cpu(void) { return false; }
