// SPDX-License-Identifier: MIT
// Launches of block quantizers, and how scales are bound.
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

// Each element is read once where a block is a power of two of threads in one threadgroup.
bool is_regular(int64_t blocksize) { return blocksize >= kItems && blocksize <= kTile && (blocksize & (blocksize - 1)) == 0; }

// Elements of the first block: a number that kernels divide by in 32 bits if they can.
int64_t within(int64_t blocksize, int64_t n) { return blocksize < n ? blocksize : n; }

kernels::QuantizeArgs quantize_args(const Commands &commands, const BlockQuantizer &format, int64_t blocksize) {
  return {format.n,
          block_count(format.n, format.blocksize),
          kernels::divisor(blocksize, format.n),
          commands.aligned(16, format.a),
          commands.aligned(16, format.out),
          commands.aligned(4, format.scale),
          format.subtract != nullptr};
}

Grid grid_over(const Commands &commands, int64_t n) { return {commands.groups_for(ceil_div(n, kTile)), kQuantizeThreads}; }

}  // namespace

void measure_absmax(Commands &commands, const BlockQuantizer &format, const Workspace &maxima) {
  const kernels::QuantizeArgs args = quantize_args(commands, format, within(format.blocksize, format.n));
  const Grid over_blocks{commands.groups_for(ceil_div(args.blocks, kQuantizeThreads)), kQuantizeThreads};
  commands.need(maxima.status());
  commands.run({"blocks", "clear_words"}, over_blocks, args.blocks, maxima);
  commands.run({"blocks", "measure_absmax", format.dtype}, grid_over(commands, format.n), args, format.a, format.subtract, maxima);
}

void encode_blocks(Commands &commands, const BlockQuantizer &format, const Workspace &absmax) {
  commands.need(absmax.status());
  commands.run({format.file, format.name, format.dtype, "any"}, grid_over(commands, format.n),
               quantize_args(commands, format, within(format.blocksize, format.n)), format.a, format.subtract, format.out, format.scale,
               format.code, absmax);
}

void quantize_blocks(Commands &commands, const Queue &queue, const BlockQuantizer &format) {
  if (format.n == 0) return;
  if (is_regular(format.blocksize)) {
    commands.run({format.file, format.name, format.dtype, "regular"}, grid_over(commands, format.n),
                 quantize_args(commands, format, format.blocksize), format.a, format.subtract, format.out, format.scale, format.code);
    return;
  }
  const Workspace maxima(queue, size_t(block_count(format.n, format.blocksize)) * sizeof(uint32_t));
  measure_absmax(commands, format, maxima);
  encode_blocks(commands, format, maxima);
}

BoundScales bind_scales(const Commands &commands, const AbsmaxView &view, int64_t blocks) {
  static_assert(int(ScaleKind::kF32) == 0 && int(ScaleKind::kNested) == 1 && int(ScaleKind::kE8M0) == 2 && int(ScaleKind::kE4M3FN) == 3,
                "as in kernels/scales.h");
  BoundScales bound{};
  bound.scales = view.kind == ScaleKind::kF32 ? view.absmax : view.codes;
  bound.nested_code = view.nested_code;
  bound.nested_absmax = view.nested_absmax;
  bound.single = view.kind == ScaleKind::kNested ? view.nested_offset : view.tensor_scale;
  bound.args.nested_blocksize = kernels::divisor(view.nested_blocksize, blocks);
  bound.args.kind = uint32_t(view.kind);
  bound.args.has_tensor_scale = view.tensor_scale != nullptr;
  bound.args.aligned = commands.aligned(4, view.absmax, view.nested_code, view.nested_absmax);
  return bound;
}

void dequantize_blocks(Commands &commands, const BlockDequantizer &format) {
  const BoundScales scales = bind_scales(commands, format.scales, block_count(format.n, format.blocksize));
  const kernels::DequantizeArgs args{format.n, kernels::divisor(within(format.blocksize, format.n), format.n), scales.args,
                                     commands.aligned(16, format.a), commands.aligned(16, format.out)};
  const Grid grid{commands.groups_for(ceil_div(format.n, kTile)), kQuantizeThreads};
  commands.run({format.file, format.name, format.dtype}, grid, args, format.a, format.code, format.out, scales.scales, scales.nested_code,
               scales.nested_absmax, scales.single);
}

kernels::BiasArgs bias_args(const Commands &commands, DType dtype, const void *bias) {
  if (!bias) return {kernels::kNoBias, 0};
  const uint32_t which = dtype == DType::kF32 ? kernels::kBiasF32 : dtype == DType::kF16 ? kernels::kBiasF16 : kernels::kBiasBF16;
  return {which, commands.aligned(dtype == DType::kF32 ? 4 : 2, bias)};
}

void clear_bytes(Commands &commands, const void *data, int64_t bytes) {
  const Grid grid{commands.groups_for(ceil_div(bytes, kQuantizeThreads)), kQuantizeThreads};
  if (bytes > 0) commands.run({"blocks", "clear_bytes"}, grid, bytes, data);
}

}  // namespace bnb::metal
