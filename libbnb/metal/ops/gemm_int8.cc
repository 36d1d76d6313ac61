// SPDX-License-Identifier: MIT
// int8 products on Metal, and LLM.int8() around them: quantization, a list of the outlier columns made on the device, the product.
#include "core/linear_int8.h"
#include "metal/int8.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int kListThreads = 256;  // as in the kernel

Int8Product product_of(const Commands &commands, const GemmInt8Args &args) {
  Int8Product p{};
  p.file = "gemm_int8";
  p.weights = "int8";
  p.args.m = args.m;
  p.args.n = args.n;
  p.args.k = args.k;
  p.args.a_stride = args.a_stride;
  p.args.b_stride = args.b_stride;
  p.args.x_stride = args.x_stride;
  p.args.out_stride = args.out_stride;
  p.args.blocks = 1;
  p.args.outliers = args.outliers;
  p.args.block = p.args.rows_per_scale = kernels::divisor(1, args.n);
  p.args.bias = bias_args(commands, args.bias_dtype, args.bias);
  p.args.x = bias_args(commands, args.x_dtype, args.x);
  p.args.out_dtype = dtype_code(args.dtype);
  p.args.aligned_b = commands.aligned(16, args.b) && args.b_stride % 16 == 0;
  p.a = commands.place(args.a);
  p.b = commands.place(args.b);
  p.scale = commands.place(args.col_stats);
  p.row_stats = commands.place(args.row_stats);
  p.bias = commands.place(args.bias);
  p.x = commands.place(args.x);
  p.list = commands.place(args.outlier_cols);
  p.out = commands.place(args.out);
  return p;
}

}  // namespace

bnb_status gemm_int8(const GemmInt8Args &args, Queue queue) {
  Commands commands(queue);
  multiply_int8(commands, product_of(commands, args));
  return commands.commit();
}

bnb_status linear_int8(const LinearInt8Args &args, Queue queue) {
  Commands commands(queue);
  if (args.m == 0 || args.n == 0) return commands.commit();
  // The list, marks of columns, its length, row_stats, codes: in this order, each at a multiple of 16.
  const bool outliers = args.threshold > 0.0f;
  const int64_t listed = outliers ? args.k : 0, words = ceil_div(listed, 32);
  const auto padded = [](int64_t bytes) { return uint64_t(ceil_div(bytes, 16) * 16); };
  const uint64_t marks = padded(listed * 8), count = marks + padded(words * 4), stats = count + 16, codes = stats + padded(args.m * 4);
  const Workspace memory(queue, size_t(codes + uint64_t(args.m * args.k)));
  commands.need(memory.status());
  const auto at = [&](uint64_t offset) { return Place{memory.buffer(), offset}; };

  const Int8Rows rows{args.dtype, commands.place(args.a), args.m,    args.k,    args.a_stride, args.threshold,
                      at(codes),  at(stats),              at(marks), outliers, Place{}};
  if (outliers) clear_words(commands, at(marks), words);
  quantize_rows(commands, rows);
  if (outliers) {
    drop_outliers(commands, rows);
    commands.run({"gemm_int8", "list_columns"}, {1, kListThreads}, words, at(marks), at(0), at(count));
  }

  Int8Product p = product_of(commands, product_of_layer(args, nullptr, nullptr, nullptr));
  p.args.counted = outliers;
  p.a = at(codes);
  p.row_stats = at(stats);
  p.list = at(0);
  p.count = at(count);
  multiply_int8(commands, p);
  return commands.commit();
}

}  // namespace bnb::metal
