// SPDX-License-Identifier: MIT
// Products with quantized weights, written to be read: sums in float64, rounded to fp32 and then to the output's dtype.
#include "formats/e2m1.h"
#include "formats/fp4.h"
#include "formats/fp8.h"
#include "formats/nf4.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using cpu::GemmKernelArgs;

float code_value(const GemmArgs &args, int64_t i) {
  const auto nibble = [&] { return uint8_t(i % 2 ? args.b[i / 2] & 15 : args.b[i / 2] >> 4); };
  switch (args.quant_type) {
    case BNB_FP4: return formats::fp4::decode(nibble());
    case BNB_NF4: return formats::nf4::decode(nibble());
    case BNB_MXFP4:
    case BNB_NVFP4: return formats::e2m1::decode(uint8_t(i % 2 ? args.b[i / 2] >> 4 : args.b[i / 2] & 15));
    case BNB_FP8_E4M3FN: return formats::fp8::decode<formats::fp8::E4M3FN>(args.b[i]);
    default: return formats::fp8::decode<formats::fp8::E5M2>(args.b[i]);
  }
}

// Element i of the weights as dequantizing gives it in fp32.
float weight(const GemmArgs &args, int64_t i) { return code_value(args, i) * args.scales.at(i / args.blocksize); }

double bias_at(const GemmArgs &args, int64_t column) {
  double value = 0.0;
  if (!args.bias) return value;
  with_float(args.bias_dtype, [&](auto tag) { value = double(load_float<decltype(tag)>(args.bias, column)); });
  return value;
}

bool any_shape(const GemmArgs &) { return true; }

void multiply(const GemmKernelArgs &args, int64_t begin, int64_t end) {
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

cpu::ProductPlan plan(const GemmArgs &args, int) {
  cpu::ProductPlan plan{};
  plan.units = args.m * args.n;
  plan.unit_cost = args.k;
  return plan;
}

}  // namespace

const cpu::GemmMethod kGemm4bitMethods[] = {{"plain", any_shape, plan, nullptr, multiply}, {}};
const cpu::GemmMethod kGemmFp8Methods[] = {{"plain", any_shape, plan, nullptr, multiply}, {}};
const cpu::GemmMethod kGemmE2m1Methods[] = {{"plain", any_shape, plan, nullptr, multiply}, {}};

}  // namespace bnb::reference
