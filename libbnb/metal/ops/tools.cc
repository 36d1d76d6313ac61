// SPDX-License-Identifier: MIT
// The small operations of core/tool_ops.h on Metal.
#include "core/sums.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int kThreads = 256;  // as in the kernels

Grid grid_over(const Commands &commands, int64_t n) { return {commands.groups_for(ceil_div(n, kTile)), kThreads}; }

}  // namespace

bnb_status nearest_code(const NearestCodeArgs &args, Queue queue) {
  Commands commands(queue);
  const kernels::ArrayArgs kernel_args{args.n, commands.aligned(16, args.a), commands.aligned(16, args.out)};
  commands.run({"blockwise", "nearest_code"}, grid_over(commands, args.n), kernel_args, args.code, args.a, args.out);
  return commands.commit();
}

bnb_status percentile_clipping(const PercentileClippingArgs &args, Queue queue) {
  Commands commands(queue);
  kernels::NormArgs sections{};
  sections.n = args.n;
  sections.sums = ceil_div(args.n, kSumSection);
  sections.aligned = commands.aligned(args.dtype == DType::kF32 ? 4 : 2, args.g);
  const Workspace sums(queue, size_t(sections.sums) * sizeof(uint64_t));
  commands.need(sums.status());
  commands.run({"norms", "sum_squares", args.dtype}, {commands.groups_for(sections.sums), kThreads}, sections, args.g, sums);
  const int64_t first = args.step == 1 ? 0 : args.step % kGnormHistory, last = args.step == 1 ? kGnormHistory : first + 1;
  const kernels::HistoryArgs history{sections.sums, first, last};
  commands.run({"tools", "remember_sum"}, {1, kThreads}, history, sums, args.gnorm_vec);
  return commands.commit();
}

bnb_status histogram_add(const HistogramAddArgs &args, Queue queue) {
  Commands commands(queue);
  const kernels::HistogramArgs kernel_args{args.n, args.row_length, commands.aligned(4, args.rows, args.cols),
                                           commands.aligned(4, args.histogram, args.added)};
  commands.run({"tools", "add_to_cells"}, {commands.groups_for(ceil_div(args.n, kThreads)), kThreads}, kernel_args, args.rows, args.cols,
               args.added, args.histogram);
  return commands.commit();
}

bnb_status fill(const FillArgs &args, Queue queue) {
  Commands commands(queue);
  const bool bytes = args.dtype == DType::kU8;
  const kernels::FillArgs kernel_args{bytes ? args.n : args.n * int64_t(sizeof(float)),
                                      bytes ? args.byte * UINT32_C(0x01010101) : formats::bits_from_float(args.value),
                                      commands.aligned(16, args.a)};
  commands.run({"tools", "fill_bytes"}, grid_over(commands, kernel_args.bytes), kernel_args, args.a);
  return commands.commit();
}

bnb_status arange(const ArangeArgs &args, Queue queue) {
  Commands commands(queue);
  const kernels::ArrayArgs kernel_args{args.n, commands.aligned(16, args.a), 0};
  commands.run({"tools", "count_up"}, grid_over(commands, args.n), kernel_args, args.a);
  return commands.commit();
}

bnb_status multiply(const MultiplyArgs &args, Queue queue) {
  Commands commands(queue);
  const kernels::ArrayArgs kernel_args{args.n, commands.aligned(16, args.a), commands.aligned(16, args.b)};
  commands.run({"tools", "multiply_floats"}, grid_over(commands, args.n), kernel_args, args.a, args.b);
  return commands.commit();
}

bnb_status transpose_int8(const TransposeInt8Args &args, Queue queue) {
  constexpr int64_t kSide = 64;  // as in the kernel
  Commands commands(queue);
  const int64_t across = ceil_div(args.cols, kSide), tiles = across * ceil_div(args.rows, kSide);
  const kernels::TransposeArgs kernel_args{args.rows,
                                           args.cols,
                                           args.a_stride,
                                           tiles,
                                           kernels::divisor(across, tiles),
                                           commands.aligned(16, args.a) && args.a_stride % 16 == 0,
                                           commands.aligned(16, args.out) && args.rows % 16 == 0};
  commands.run({"transpose", "transpose_int8"}, {commands.groups_for(tiles), kThreads}, kernel_args, args.a, args.out);
  return commands.commit();
}

bnb_status saturate_int8(const SaturateInt8Args &args, Queue queue) {
  Commands commands(queue);
  const int64_t across = ceil_div(args.cols, kItems), pieces = across * args.rows;
  const kernels::SaturateArgs kernel_args{args.rows,
                                          args.cols,
                                          args.out_stride,
                                          pieces,
                                          kernels::divisor(across, pieces),
                                          commands.aligned(4, args.a),
                                          commands.aligned(16, args.out) && args.out_stride % 16 == 0,
                                          commands.aligned(4, args.scales),
                                          args.scales != nullptr};
  commands.run({"transpose", "saturate_int8"}, {commands.groups_for(ceil_div(pieces, kThreads)), kThreads}, kernel_args, args.a,
               args.scales, args.out);
  return commands.commit();
}

}  // namespace bnb::metal
