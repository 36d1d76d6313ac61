// SPDX-License-Identifier: MIT
// Products with ternary weights on the CPU: the first method of the table that fits, and the layer around it.
#include "core/scratch.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {
namespace {

// One statistic for all rows: the largest, or NaN, whose bits are above all others.
void level(float *row_stats, int64_t rows) {
  uint32_t largest = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const uint32_t bits = load<uint32_t>(row_stats, row);
    if (bits > largest) largest = bits;
  }
  for (int64_t row = 0; row < rows; ++row) store<uint32_t>(row_stats, row, largest);
}

// int8 with one scale for the whole matrix.
void quantize_tensor(const Kernels &kernels, const QuantizeInt8Args &args) {
  const int64_t row_bytes = args.cols * float_size(args.dtype);
  parallel_for(args.rows, row_bytes, 1, [&](int64_t begin, int64_t end) { kernels.int8_row_stats(args, begin, end); });
  level(static_cast<float *>(args.row_stats), args.rows);
  parallel_for(args.rows, row_bytes + args.cols, 1,
               [&](int64_t begin, int64_t end) { kernels.int8_quantize_rows(args, begin, end); });
}

}  // namespace

bnb_status gemm_ternary(const GemmTernaryArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  return multiply_by_method(kernels->gemm_ternary, args);
}

bnb_status linear_ternary(const LinearTernaryArgs &args, Queue queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  GemmTernaryArgs product = args.product;
  const Scratch<int8_t> codes(product.m * product.k);
  const Scratch<float> row_stats(product.m);
  if (!codes.usable() || !row_stats.usable()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %lld bytes of codes", (long long)(product.m * product.k));
  }
  QuantizeInt8Args quantize{};
  quantize.dtype = args.dtype;
  quantize.a = args.a;
  quantize.rows = product.m;
  quantize.cols = product.k;
  quantize.row_stride = args.a_stride;
  quantize.out = codes.data();
  quantize.row_stats = row_stats.data();
  if (args.per_tensor) {
    quantize_tensor(*kernels, quantize);
  } else {
    const bnb_status status = quantize_int8(quantize, queue);
    if (status != BNB_OK) return status;
  }

  product.a = codes.data();
  product.a_stride = product.k;
  product.row_stats = row_stats.data();
  product.same_row_stats = args.per_tensor;
  return multiply_by_method(kernels->gemm_ternary, product);
}

}  // namespace bnb::cpu
