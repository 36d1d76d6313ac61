// SPDX-License-Identifier: MIT
// Products with quantized weights, written to be read: sums in float64, rounded to fp32 and then to the output's dtype.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using cpu::Gemm4bitKernelArgs;

// Element i of the weights as cdequantize_4bit gives it in fp32.
float weight(const Gemm4bitArgs &args, int64_t i) {
  const uint8_t code = i % 2 ? args.b[i / 2] & 15 : args.b[i / 2] >> 4;
  const float value = args.quant_type == BNB_NF4 ? formats::nf4::decode(code) : formats::fp4::decode(code);
  return value * args.absmax.at(i / args.blocksize);
}

double bias_at(const Gemm4bitArgs &args, int64_t column) {
  double value = 0.0;
  if (!args.bias) return value;
  with_float(args.bias_dtype, [&](auto tag) { value = double(load_float<decltype(tag)>(args.bias, column)); });
  return value;
}

bool any_shape(const Gemm4bitArgs &) { return true; }

void gemm_4bit(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit / args.n, column = unit % args.n;
      double sum = bias_at(args, column);
      for (int64_t k = 0; k < args.k; ++k) {
        sum += double(load_float<Tag>(args.a, row * args.a_stride + k)) * double(weight(args, column * args.k + k));
      }
      store_float<Tag>(args.out, row * args.out_stride + column, float(sum));
    }
  });
}

cpu::ProductPlan plan(const Gemm4bitArgs &args, int) {
  cpu::ProductPlan plan{};
  plan.units = args.m * args.n;
  plan.unit_cost = args.k;
  return plan;
}

}  // namespace

const cpu::Gemm4bitMethod kGemm4bitMethods[] = {{"plain", any_shape, plan, nullptr, gemm_4bit}, {}};

}  // namespace bnb::reference
