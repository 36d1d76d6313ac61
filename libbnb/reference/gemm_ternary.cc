// SPDX-License-Identifier: MIT
// Products with ternary weights, written to be read: sums of a block in int32, of blocks in float64.
#include "formats/ternary.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using namespace formats::ternary;
using cpu::GemmTernaryKernelArgs;

template <typename Layout>
struct Tq {
  static const uint8_t *block_of(const GemmTernaryArgs &args, int64_t i) { return args.b + i / kBlock * Layout::kBytes; }
  static int weight(const GemmTernaryArgs &args, int64_t i) {
    const Place place = Layout::place_of(int(i % kBlock));
    return value(Layout::code(block_of(args, i)[place.byte], place.index));
  }
  static float scale(const GemmTernaryArgs &args, int64_t i) {
    return load_float<F16>(block_of(args, i) + Layout::kCodeBytes, 0);
  }
};

struct Plain {
  static int weight(const GemmTernaryArgs &args, int64_t i) {
    return value(TwoBits::code(args.b[i / TwoBits::kCodes], int(i % TwoBits::kCodes)));
  }
  static float scale(const GemmTernaryArgs &args, int64_t i) {
    return load<float>(args.scale, i / (args.block * args.rows_per_scale));
  }
};

float bias_at(const GemmTernaryArgs &args, int64_t column) {
  float value = 0.0f;
  with_float(args.bias_dtype, [&](auto tag) { value = load_float<decltype(tag)>(args.bias, column); });
  return value;
}

// The sum over a block of a row of weights.
template <typename Weights>
int32_t sum_of_products(const GemmTernaryArgs &args, int64_t row, int64_t column, int64_t block) {
  int32_t sum = 0;
  for (int64_t k = block * args.block; k < (block + 1) * args.block; ++k) {
    sum += int32_t(args.a[row * args.a_stride + k]) * Weights::weight(args, column * args.k + k);
  }
  return sum;
}

template <typename Weights>
float product(const GemmTernaryArgs &args, int64_t row, int64_t column) {
  const int64_t blocks = args.blocks(), first = column * args.k;
  if (blocks == 1) {
    const float scale = args.row_stat(row) * Weights::scale(args, first);
    return float(sum_of_products<Weights>(args, row, column, 0)) * scale * (1.0f / 127.0f);
  }
  double sum = 0.0;
  for (int64_t block = 0; block < blocks; ++block) {
    sum += double(Weights::scale(args, first + block * args.block)) *
           double(sum_of_products<Weights>(args, row, column, block));
  }
  return float(sum * double(args.row_stat(row) * (1.0f / 127.0f)));
}

bool any_shape(const GemmTernaryArgs &) { return true; }
void pack_nothing(const GemmTernaryKernelArgs &, int64_t, int64_t) {}

template <typename Weights>
void multiply(const GemmTernaryKernelArgs &args, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t row = unit / args.n, column = unit % args.n;
    float value = product<Weights>(args, row, column);
    if (args.bias) value += bias_at(args, column);
    with_float(args.dtype, [&](auto tag) { store_float<decltype(tag)>(args.out, row * args.out_stride + column, value); });
  }
}

void multiply_any(const GemmTernaryKernelArgs &args, int64_t begin, int64_t end) {
  switch (args.quant_type) {
    case BNB_TQ1_0: return multiply<Tq<TQ1>>(args, begin, end);
    case BNB_TQ2_0: return multiply<Tq<TQ2>>(args, begin, end);
    default: return multiply<Plain>(args, begin, end);
  }
}

cpu::ProductPlan plan(const GemmTernaryArgs &args, int) {
  cpu::ProductPlan plan{};
  plan.units = args.m * args.n;
  plan.unit_cost = args.k;
  return plan;
}

}  // namespace

const cpu::GemmTernaryMethod kGemmTernaryMethods[] = {{"plain", any_shape, plan, pack_nothing, multiply_any}, {}};

}  // namespace bnb::reference
