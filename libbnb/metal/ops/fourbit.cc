// SPDX-License-Identifier: MIT
// NF4 and FP4 on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {

bnb_status quantize_4bit(const Quantize4bitArgs &args, Queue queue) {
  Commands commands(queue);
  const int64_t bytes = (args.n + 1) / 2;
  quantize_blocks(commands, queue,
                  {"fourbit", args.quant_type == BNB_NF4 ? "quantize_nf4" : "quantize_fp4", args.dtype, args.a, args.n, args.blocksize,
                   nullptr, args.out, args.absmax, nullptr});
  clear_bytes(commands, args.out + bytes, args.out_bytes - bytes);
  return commands.commit();
}

bnb_status dequantize_4bit(const Dequantize4bitArgs &args, Queue queue) {
  Commands commands(queue);
  dequantize_blocks(commands, {"fourbit", args.quant_type == BNB_NF4 ? "dequantize_nf4" : "dequantize_fp4", args.dtype, args.a, args.absmax,
                               args.n, args.blocksize, args.out, nullptr});
  return commands.commit();
}

}  // namespace bnb::metal
