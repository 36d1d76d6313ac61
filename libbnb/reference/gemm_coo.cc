// SPDX-License-Identifier: MIT
// Sparse times dense, written to be read: sums in float64.
#include "reference/reference.h"

namespace bnb::reference {
namespace {

// B[k, n], or B[n, k] where it stands on its side.
float dense_at(const GemmCooArgs &args, int64_t k, int64_t n) {
  const int64_t i = args.transposed_b ? n * args.b_stride + k : k * args.b_stride + n;
  float value = 0.0f;
  if (args.b_dtype == DType::kI8) {
    value = float(load<int8_t>(args.b, i));
    return args.col_stats ? value * load<float>(args.col_stats, n) * (1.0f / 127.0f) : value;
  }
  with_float(args.b_dtype, [&](auto tag) { value = load_float<decltype(tag)>(args.b, i); });
  return value;
}

void multiply(const GemmCooKernelArgs &args, int64_t row, int64_t n) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    const int64_t at = row * args.out_stride + n;
    double sum = args.accumulate ? double(load_float<Tag>(args.out, at)) : 0.0;
    for (int64_t i = args.row_starts[row]; i < args.row_starts[row + 1]; ++i) {
      const int64_t k = args.transposed_b ? args.used_columns[args.columns[i]] : args.columns[i];
      sum += double(args.factors[i]) * double(dense_at(args, k, n));
    }
    store_float<Tag>(args.out, at, float(sum));
  });
}

}  // namespace

void gemm_coo(const GemmCooKernelArgs &args, int64_t begin, int64_t end) {
  const int64_t down = ceil_div(args.m, args.unit_rows);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit / down * cpu::kCooColumns, m0 = unit % down * args.unit_rows;
    for (int64_t row = m0; row < args.m && row < m0 + args.unit_rows; ++row) {
      for (int64_t n = n0; n < args.n && n < n0 + cpu::kCooColumns; ++n) multiply(args, row, n);
    }
  }
}

}  // namespace bnb::reference
