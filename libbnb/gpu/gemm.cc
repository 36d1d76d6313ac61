// SPDX-License-Identifier: MIT
// Products with MX weights: those of 4-bit and of FP8 codes, with another kind of scales.
#include "gpu/ops.h"

namespace bnb::gpu {

bnb_status gemm_mx(const GemmArgs &args, Queue queue) {
  const bool four_bits = args.quant_type == BNB_MXFP4 || args.quant_type == BNB_NVFP4;
  return four_bits ? gemm_4bit(args, queue) : gemm_fp8(args, queue);
}

}  // namespace bnb::gpu
