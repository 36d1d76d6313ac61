// SPDX-License-Identifier: MIT
// out = A @ dequantize(B)^T + bias with MXFP4 and NVFP4 weights: which method for which shape. (MXFP8 are FP8 weights
// with other scales: gemm_fp8.cc.)
#include "cpu/kernels/gemm_panel.h"
#include "cpu/kernels/weights_e2m1.h"
#if defined(BNB_HAS_BF16_PRODUCTS)
#include "cpu/kernels/gemm_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {

const GemmMethod kGemmE2m1Methods[] = {
#if defined(BNB_HAS_BF16_PRODUCTS)
    few_rows<NibblePairLookup<E2m1Codes>, 3>("few rows, bf16 pairs"),
    tiles<E2m1Tiles, BF16>("tiles, bf16"),
    few_rows<NibbleFloatLookup<E2m1Codes>, 6>("few rows, fp32"),
    tiles<E2m1Tiles, F16>("tiles, fp16"),
#endif
    few_rows<NibbleFloatLookup<E2m1Codes>, kFewRows>("few rows, fp32"),
    panels<WeightsE2m1>("panels, fp32"),
    {},
};

}  // namespace bnb::cpu::BNB_ISA
