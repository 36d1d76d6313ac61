// SPDX-License-Identifier: MIT
// int8 products, written to be read: sums in int32, outlier columns in float64.
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using cpu::GemmInt8KernelArgs;

int32_t sum_of_products(const GemmInt8Args &args, int64_t row, int64_t column) {
  int32_t sum = 0;
  for (int64_t k = 0; k < args.k; ++k) {
    sum += int32_t(args.a[row * args.a_stride + k]) * int32_t(args.b[column * args.b_stride + k]);
  }
  return sum;
}

// The sum of activations times dequantized weights over the outlier columns.
double outlier_product(const GemmInt8Args &args, int64_t row, int64_t column) {
  double sum = 0.0;
  const float col_stats = load<float>(args.col_stats, column);
  with_float(args.x_dtype, [&](auto tag) {
    for (int64_t i = 0; i < args.outliers; ++i) {
      const int64_t k = load<int64_t>(args.outlier_cols, i);
      const float weight = float(args.b[column * args.b_stride + k]) * col_stats * (1.0f / 127.0f);
      sum += double(load_float<decltype(tag)>(args.x, row * args.x_stride + k)) * double(weight);
    }
  });
  return sum;
}

float bias_at(const GemmInt8Args &args, int64_t column) {
  float value = 0.0f;
  with_float(args.bias_dtype, [&](auto tag) { value = load_float<decltype(tag)>(args.bias, column); });
  return value;
}

bool any_shape(const GemmInt8Args &) { return true; }
void pack_nothing(const GemmInt8KernelArgs &, int64_t, int64_t) {}

void multiply(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t row = unit / args.n, column = unit % args.n, at = row * args.out_stride + column;
    const int32_t sum = sum_of_products(args, row, column);
    if (args.dtype == DType::kI32) {
      store<int32_t>(args.out, at, sum);
      continue;
    }
    const float scale = load<float>(args.row_stats, row) * load<float>(args.col_stats, column);
    float value = float(sum) * scale * (1.0f / (127.0f * 127.0f));
    if (args.outliers) value = float(double(value) + outlier_product(args, row, column));
    if (args.bias) value += bias_at(args, column);
    with_float(args.dtype, [&](auto tag) { store_float<decltype(tag)>(args.out, at, value); });
  }
}

cpu::ProductPlan plan(const GemmInt8Args &args, int) {
  cpu::ProductPlan plan{};
  plan.units = args.m * args.n;
  plan.unit_cost = args.k;
  return plan;
}

}  // namespace

const cpu::GemmInt8Method kGemmInt8Methods[] = {{"plain", any_shape, plan, pack_nothing, multiply}, {}};

}  // namespace bnb::reference
