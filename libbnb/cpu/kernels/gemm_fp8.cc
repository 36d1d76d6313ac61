// SPDX-License-Identifier: MIT
// out = A @ dequantize(B)^T + bias with FP8 weights: which method for which shape.
#include "cpu/kernels/gemm_panel.h"
#include "cpu/kernels/weights_fp8.h"
#if defined(BNB_HAS_BF16_PRODUCTS)
#include "cpu/kernels/gemm_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {

const GemmMethod kGemmFp8Methods[] = {
#if defined(BNB_HAS_BF16_PRODUCTS)
    few_rows<BytePairLookup, 3>("few rows, bf16 pairs"),
    tiles<ByteTiles, BF16>("tiles, bf16"),
    few_rows<ByteFloatLookup, 6>("few rows, fp32"),
    tiles<ByteTiles, F16>("tiles, fp16"),
#endif
    few_rows<ByteFloatLookup, kFewRows>("few rows, fp32"),
    panels<WeightsFp8>("panels, fp32"),
    {},
};

}  // namespace bnb::cpu::BNB_ISA
