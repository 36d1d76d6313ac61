// SPDX-License-Identifier: MIT
// The words of words.h for CPUs that also have VBMI, VNNI and BF16: AVX-512 with byte permutes.
#ifndef BNB_CPU_SIMD_AVX512_BF16_H_
#define BNB_CPU_SIMD_AVX512_BF16_H_

#include "cpu/simd/avx512.h"

#endif  // BNB_CPU_SIMD_AVX512_BF16_H_
