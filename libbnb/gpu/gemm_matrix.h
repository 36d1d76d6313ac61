// SPDX-License-Identifier: MIT
// The methods of products by matrix instructions, which are compiled apart from the others.
#ifndef BNB_GPU_GEMM_MATRIX_H_
#define BNB_GPU_GEMM_MATRIX_H_

#include "gpu/gemm.h"

namespace bnb::gpu {

#define BNB_WEAK __attribute__((weak))  // as the operations of ops.h
BNB_WEAK bool few_rows_matrix_4bit(const GemmArgs &, const Queue &);
BNB_WEAK bnb_status multiply_few_rows_matrix_4bit(const GemmArgs &, const Queue &);
BNB_WEAK bool few_rows_matrix_fp8(const GemmArgs &, const Queue &);
BNB_WEAK bnb_status multiply_few_rows_matrix_fp8(const GemmArgs &, const Queue &);
#undef BNB_WEAK

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_MATRIX_H_
