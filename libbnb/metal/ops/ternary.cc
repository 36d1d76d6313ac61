// SPDX-License-Identifier: MIT
// Ternary weights on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kPiece = 1024, kPiecesAtOnce = 16, kSection = 64, kGgufBlock = 256, kGgufAtOnce = 4;  // as in the kernels
constexpr int64_t kSmall = 256;  // elements of a block that one thread sums

// The mean of |a| of every block, fp32, into a workspace.
void measure_absmean(Commands &commands, const Queue &queue, const QuantizeTernaryArgs &args, const Workspace &means) {
  const int64_t blocksize = args.blocksize < args.n ? args.blocksize : args.n, blocks = block_count(args.n, blocksize);
  const int64_t pieces = ceil_div(blocksize, kPiece), sections = ceil_div(pieces, kSection);
  const kernels::AbsmeanArgs kernel_args{args.n, blocksize, blocks, kernels::divisor(pieces, blocks * pieces),
                                         kernels::divisor(sections, blocks * sections), commands.aligned(16, args.a), 0};
  const Workspace of_pieces(queue, size_t(blocks * pieces) * sizeof(uint64_t));
  const Workspace of_sections(queue, size_t(blocks * sections) * sizeof(uint64_t));
  commands.need(of_pieces.status());
  commands.need(of_sections.status());
  commands.need(means.status());
  const auto grid = [&](int64_t units, int64_t at_once) {
    return Grid{commands.groups_for(ceil_div(units, at_once)), int(kQuantizeThreads)};
  };
  if (blocksize <= kSmall) {
    commands.run({"ternary", "sum_small_blocks", args.dtype}, grid(blocks, kQuantizeThreads), kernel_args, args.a, of_pieces);
  } else {
    commands.run({"ternary", "sum_magnitudes", args.dtype}, grid(blocks * pieces, kPiecesAtOnce), kernel_args, args.a, of_pieces);
  }
  commands.run({"ternary", "sum_sections"}, grid(blocks * sections, kQuantizeThreads), kernel_args, of_pieces, of_sections);
  commands.run({"ternary", "means_of_sections"}, grid(blocks, kQuantizeThreads), kernel_args, of_sections, means);
}

}  // namespace

bnb_status quantize_ternary(const QuantizeTernaryArgs &args, Queue queue) {
  Commands commands(queue);
  if (args.n == 0) return commands.commit();
  const bool mean = args.rule == BNB_ABSMEAN;
  const BlockQuantizer two_bits{"ternary", mean ? "quantize_ternary_absmean" : "quantize_ternary_absmax", args.dtype, args.a, args.n,
                                args.blocksize, nullptr, args.out, args.scale, nullptr};
  if (args.quant_type == BNB_TERNARY && !mean) {
    quantize_blocks(commands, queue, two_bits);
    return commands.commit();
  }
  const Workspace scales(queue, size_t(block_count(args.n, args.blocksize)) * sizeof(float));
  if (mean) {
    measure_absmean(commands, queue, args, scales);
  } else {
    measure_absmax(commands, two_bits, scales);
  }
  if (args.quant_type == BNB_TERNARY) {
    encode_blocks(commands, two_bits, scales);
    return commands.commit();
  }
  const int64_t blocksize = args.blocksize < args.n ? args.blocksize : args.n, blocks = args.n / kGgufBlock;
  const kernels::GgufArgs kernel_args{blocks, kernels::divisor(blocksize, args.n), commands.aligned(16, args.a),
                                      commands.aligned(16, args.out), commands.aligned(4, args.scale), args.scale != nullptr};
  commands.run({"ternary", args.quant_type == BNB_TQ1_0 ? "quantize_tq1" : "quantize_tq2", args.dtype, mean ? "absmean" : "absmax"},
               {commands.groups_for(ceil_div(blocks, kGgufAtOnce)), int(kQuantizeThreads)}, kernel_args, args.a, scales, args.out,
               args.scale);
  return commands.commit();
}

bnb_status dequantize_ternary(const DequantizeTernaryArgs &args, Queue queue) {
  Commands commands(queue);
  if (args.quant_type == BNB_TERNARY) {
    AbsmaxView scales;
    scales.absmax = args.scale;
    dequantize_blocks(commands, {"ternary", "dequantize_ternary", args.dtype, args.a, scales, args.n, args.blocksize, args.out, nullptr});
    return commands.commit();
  }
  const kernels::GgufArgs kernel_args{args.n / kGgufBlock, kernels::divisor(1, 1), 0, commands.aligned(16, args.out), 0, 0};
  commands.run({"ternary", args.quant_type == BNB_TQ1_0 ? "dequantize_tq1" : "dequantize_tq2", args.dtype},
               {commands.groups_for(ceil_div(args.n, kTile)), int(kQuantizeThreads)}, kernel_args, args.a, args.out);
  return commands.commit();
}

}  // namespace bnb::metal
