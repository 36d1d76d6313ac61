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
  const BoundScales scales = bind_scales(commands, args.absmax, block_count(args.n, args.blocksize));
  const Grid grid{commands.groups_for(ceil_div(args.n, kTile)), kQuantizeThreads};
  commands.run({"blockwise", "dequantize_blockwise", args.dtype}, grid,
               dequantize_args(commands, args.n, args.blocksize, scales, args.a, args.out), args.a, args.code, args.out, scales.scales,
               scales.nested_code, scales.nested_absmax, scales.single);
  return commands.commit();
}

}  // namespace bnb::metal
