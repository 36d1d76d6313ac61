// SPDX-License-Identifier: MIT
// FP8 with one scale per block on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {

bnb_status quantize_fp8(const QuantizeFp8Args &args, Queue queue) {
  Commands commands(queue);
  quantize_blocks(commands, queue,
                  {"fp8", args.quant_type == BNB_FP8_E4M3FN ? "quantize_e4m3fn" : "quantize_e5m2", args.dtype, args.a, args.n,
                   args.blocksize, nullptr, args.out, args.scale, nullptr});
  return commands.commit();
}

bnb_status dequantize_fp8(const DequantizeFp8Args &args, Queue queue) {
  Commands commands(queue);
  AbsmaxView scales;
  scales.absmax = args.scale;
  dequantize_blocks(commands, {"fp8", args.quant_type == BNB_FP8_E4M3FN ? "dequantize_e4m3fn" : "dequantize_e5m2", args.dtype, args.a,
                               scales, args.n, args.blocksize, args.out, nullptr});
  return commands.commit();
}

}  // namespace bnb::metal
