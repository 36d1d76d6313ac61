// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {

bnb_status quantize_blockwise(const QuantizeBlockwiseArgs &args, Queue queue) {
  Commands commands(queue);
  quantize_blocks(commands, queue,
                  {"blockwise", "quantize_blockwise", args.dtype, args.a, args.n, args.blocksize, nullptr, args.out, args.absmax,
                   args.code});
  return commands.commit();
}

bnb_status dequantize_blockwise(const DequantizeBlockwiseArgs &args, Queue queue) {
  Commands commands(queue);
  dequantize_blocks(commands, {"blockwise", "dequantize_blockwise", args.dtype, args.a, args.absmax, args.n, args.blocksize, args.out,
                               args.code});
  return commands.commit();
}

}  // namespace bnb::metal
