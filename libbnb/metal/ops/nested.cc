// SPDX-License-Identifier: MIT
// Nested absmax on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {

bnb_status quantize_nested(const QuantizeNestedArgs &args, Queue queue) {
  constexpr int64_t kPiece = 1024, kPiecesAtOnce = 16;  // as in the kernels
  Commands commands(queue);
  const int64_t pieces = ceil_div(args.n, kPiece);
  const kernels::NestedSumArgs sum_args{args.n, pieces, commands.aligned(4, args.absmax), 0};
  const Workspace sums(queue, size_t(pieces) * sizeof(uint64_t));
  commands.need(sums.status());
  commands.run({"nested", "sum_pieces"}, {commands.groups_for(ceil_div(pieces, kPiecesAtOnce)), kQuantizeThreads}, sum_args, args.absmax,
               sums);
  commands.run({"nested", "mean_of_pieces"}, {1, kSimdWidth}, sum_args, sums, args.offset);
  quantize_blocks(commands, queue, {"blockwise", "quantize_blockwise", DType::kF32, args.absmax, args.n, args.blocksize, args.offset,
                                    args.out, args.nested_absmax, args.code});
  return commands.commit();
}

bnb_status dequantize_nested(const DequantizeNestedArgs &args, Queue queue) {
  Commands commands(queue);
  const BoundScales scales = bind_scales(commands, args.absmax, args.n);
  const Grid grid{commands.groups_for(ceil_div(args.n, kQuantizeThreads)), kQuantizeThreads};
  commands.run({"nested", "dequantize_nested"}, grid, kernels::NestedArgs{args.n, scales.args, commands.aligned(4, args.out), 0}, args.out,
               scales.scales, scales.nested_code, scales.nested_absmax, scales.single);
  return commands.commit();
}

}  // namespace bnb::metal
