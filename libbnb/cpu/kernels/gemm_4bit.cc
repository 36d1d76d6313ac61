// SPDX-License-Identifier: MIT
// out = A @ dequantize(B)^T + bias with NF4 and FP4 weights: which method for which shape.
#include "cpu/kernels/gemm_panel.h"
#include "cpu/kernels/weights_4bit.h"
#if defined(BNB_HAS_BF16_PRODUCTS)
#include "cpu/kernels/gemm_tiles.h"
#endif

namespace bnb::cpu::BNB_ISA {

const GemmMethod kGemm4bitMethods[] = {
#if defined(BNB_HAS_BF16_PRODUCTS)
    few_rows<NibblePairLookup<Nf4AndFp4Codes>, 3>("few rows, bf16 pairs"),
    tiles<NibbleTiles, BF16>("tiles, bf16"),
    few_rows<NibbleFloatLookup<Nf4AndFp4Codes>, 6>("few rows, fp32"),
    tiles<NibbleTiles, F16>("tiles, fp16"),
#endif
    few_rows<NibbleFloatLookup<Nf4AndFp4Codes>, kFewRows>("few rows, fp32"),
    panels<Weights4bit>("panels, fp32"),
    {},
};

}  // namespace bnb::cpu::BNB_ISA
