// SPDX-License-Identifier: MIT
// Products of int8 activations with ternary weights on Metal, and the layer of BitNet around them.
#include "metal/int8.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kGgufBlock = 256, kItem = 16;  // as in the kernels

// But for the activations and their statistics.
Int8Product product_of(const Commands &commands, const GemmTernaryArgs &args) {
  const bool tq = args.quant_type != BNB_TERNARY;
  const int64_t block = tq ? kGgufBlock : args.block;
  Int8Product p{};
  p.file = "gemm_ternary";
  p.args.m = args.m;
  p.args.n = args.n;
  p.args.k = args.k;
  p.args.a_stride = args.a_stride;
  p.args.out_stride = args.out_stride;
  p.args.blocks = args.k / block;
  p.args.block = kernels::divisor(block, args.k);
  p.args.rows_per_scale = kernels::divisor(args.rows_per_scale < args.n ? args.rows_per_scale : args.n, args.n);
  p.args.bias = bias_args(commands, args.bias_dtype, args.bias);
  p.args.out_dtype = dtype_code(args.dtype);
  p.args.same_row_stats = args.same_row_stats;
  p.args.aligned_b = tq ? commands.aligned(2, args.b) : commands.aligned(4, args.b) && args.k % kItem == 0;
  p.weights = args.quant_type == BNB_TQ1_0   ? "tq1"
              : args.quant_type == BNB_TQ2_0 ? "tq2"
              : p.args.blocks == 1           ? "two_bits"
                                             : "two_bit_blocks";
  p.b = commands.place(args.b);
  p.scale = commands.place(args.scale);
  p.bias = commands.place(args.bias);
  p.out = commands.place(args.out);
  return p;
}

}  // namespace

bnb_status gemm_ternary(const GemmTernaryArgs &args, Queue queue) {
  Commands commands(queue);
  if (args.m == 0 || args.n == 0) return commands.commit();
  Int8Product p = product_of(commands, args);
  p.a = commands.place(args.a);
  p.row_stats = commands.place(args.row_stats);
  multiply_int8(commands, p);
  return commands.commit();
}

bnb_status linear_ternary(const LinearTernaryArgs &args, Queue queue) {
  Commands commands(queue);
  GemmTernaryArgs product = args.product;
  if (product.m == 0 || product.n == 0) return commands.commit();
  const uint64_t maximum = 0, stats = 16, codes = stats + uint64_t(ceil_div(product.m, 4) * 16);
  const Workspace memory(queue, size_t(codes + uint64_t(product.m * product.k)));
  commands.need(memory.status());
  const auto at = [&](uint64_t offset) { return Place{memory.buffer(), offset}; };
  const Int8Rows rows{args.dtype, commands.place(args.a), product.m,   product.k, args.a_stride, 0.0f,
                      at(codes),  at(stats),              at(maximum), false,     Place{}};
  if (args.per_tensor) {
    clear_words(commands, at(maximum), 1);
    quantize_tensor(commands, rows);
  } else {
    quantize_rows(commands, rows);
  }
  product.a_stride = product.k;
  product.same_row_stats = args.per_tensor;
  Int8Product p = product_of(commands, product);
  p.a = at(codes);
  p.row_stats = at(stats);
  multiply_int8(commands, p);
  return commands.commit();
}

}  // namespace bnb::metal
