// SPDX-License-Identifier: MIT
// The methods of products by matrix instructions, which are compiled apart from the others.
#ifndef BNB_GPU_GEMM_MATRIX_H_
#define BNB_GPU_GEMM_MATRIX_H_

#include "gpu/gemm.h"

namespace bnb::gpu {

// Weak as the operations of ops.h are: those that a library does not have are NULL.
#define BNB_METHOD(method)                                                   \
  __attribute__((weak)) bool fits_##method(const GemmArgs &, const Queue &); \
  __attribute__((weak)) bnb_status multiply_##method(const GemmArgs &, const Queue &);

BNB_METHOD(hopper_4bit)
BNB_METHOD(hopper_fp8)
BNB_METHOD(matrix_few_4bit)
BNB_METHOD(matrix_few_fp8)
BNB_METHOD(matrix_many_4bit)
BNB_METHOD(matrix_many_fp8)
#undef BNB_METHOD

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_MATRIX_H_
