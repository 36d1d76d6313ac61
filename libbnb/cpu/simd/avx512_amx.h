// SPDX-License-Identifier: MIT
// The words of words.h for CPUs that also have AMX: those of AVX-512 with BF16. Only products use tiles.
#ifndef BNB_CPU_SIMD_AVX512_AMX_H_
#define BNB_CPU_SIMD_AVX512_AMX_H_

#include "cpu/simd/avx512_bf16.h"

#endif  // BNB_CPU_SIMD_AVX512_AMX_H_
