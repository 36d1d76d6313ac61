// SPDX-License-Identifier: MIT
// cquantize_ternary and cdequantize_ternary.
#include "formats/ternary.h"

#include <cmath>

#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Layout {
  bnb_quant_type quant_type;
  const char *name;
  int64_t weights, bytes;  // so many weights, and so many blocks are multiples of, take so many bytes

  bool is_tq() const { return quant_type != BNB_TERNARY; }
  int64_t bytes_of(int64_t n) const { return ceil_div(n, weights) * bytes; }
};
using namespace bnb::formats::ternary;
const Layout kLayouts[] = {{BNB_TERNARY, "two_bits", TwoBits::kCodes, 1},
                           {BNB_TQ1_0, "tq1_0", kBlock, TQ1::kBytes},
                           {BNB_TQ2_0, "tq2_0", kBlock, TQ2::kBytes}};

struct Rule {
  bnb_ternary_scale rule;
  const char *name;
};
constexpr Rule kRules[] = {{BNB_ABSMEAN, "absmean"}, {BNB_ABSMAX, "absmax"}};

// Halves of the largest magnitude; with a mean for the scale these fills hit no tie, and threshold_cases look for them.
const Thresholds kThresholds{{0.5f, -0.5f}, 1.0f};

Call quantize(const Layout &layout, Rule rule, DLDataType dtype, Size size, Bytes content, bool with_scale = true,
              DLDataType out_dtype = kU8) {
  Call call;
  const int A = call.input("A", dtype, {size.n}, std::move(content));
  const int out = call.output("out", out_dtype, {layout.bytes_of(size.n)});
  const int scale = with_scale ? call.output("scale", kF32, {size.blocks()}) : -1;
  call.elements_per_item = layout.is_tq() ? 1 : int64_t(TwoBits::kCodes);
  call.invoke = [=, type = layout.quant_type](DLTensor *const *t) {
    return cquantize_ternary(t[A], type, rule.rule, size.blocksize, t[out], scale < 0 ? nullptr : t[scale], nullptr);
  };
  return call;
}

Call dequantize(const Layout &layout, DLDataType dtype, Size size, Bytes codes, const std::vector<float> &scale_values,
                DLDataType in_dtype = kU8) {
  Call call;
  const int A = call.input("A", in_dtype, {layout.bytes_of(size.n)}, std::move(codes));
  const int scale = layout.is_tq() ? -1 : call.input("scale", kF32, {size.blocks()}, bytes_of(scale_values));
  const int out = call.output("out", dtype, {size.n}, Nan::kAny);
  call.invoke = [=, type = layout.quant_type](DLTensor *const *t) {
    return cdequantize_ternary(t[A], scale < 0 ? nullptr : t[scale], type, size.blocksize, t[out], nullptr);
  };
  return call;
}

// What of these a layout can have: for TQ types, whole blocks, up to some hundred where a size stands for an edge.
std::vector<Size> fitted(const Layout &layout, std::vector<Size> sizes) {
  if (!layout.is_tq()) return sizes;
  std::vector<Size> blocks;
  for (Size size : sizes) {
    const int64_t n = (size.n < 4096 ? size.n / 16 : size.n / kBlock) * kBlock, blocksize = size.blocksize / 64 + 1;
    blocks.push_back({n, blocksize > INT64_MAX / kBlock ? INT64_MAX : blocksize * kBlock});
  }
  std::sort(blocks.begin(), blocks.end(), [](Size a, Size b) { return a.n != b.n ? a.n < b.n : a.blocksize < b.blocksize; });
  blocks.erase(std::unique(blocks.begin(), blocks.end(), [](Size a, Size b) { return a.n == b.n && a.blocksize == b.blocksize; }),
               blocks.end());
  return blocks;
}

std::string name(const char *op, const Layout &layout, DLDataType dtype, const std::string &rest) {
  return std::string("ternary/") + op + "/" + layout.name + "/" + name_of(dtype) + "/" + rest;
}

void quantize_cases(Suite &suite, const Layout &layout, Rule rule, DLDataType dtype) {
  const auto check = [&](const std::string &rest, Size size, const std::function<Bytes(Random &)> &content, bool with_scale = true) {
    suite.check(name("quantize", layout, dtype, std::string(rule.name) + "/" + rest),
                [&](Random &random) { return quantize(layout, rule, dtype, size, content(random), with_scale); });
  };
  const auto check_fill = [&](Size size, Fill fill, bool with_scale = true) {
    check(name_of(size) + "/" + name_of(fill) + (with_scale ? "" : "/no_scale"), size,
          [&](Random &random) { return filled(fill, dtype, size.n, size.blocksize, kThresholds, random); }, with_scale);
  };
  for (Size size : fitted(layout, edge_sizes(1, suite.quick()))) check_fill(size, Fill::kMixed);
  for (Size size : fitted(layout, large_sizes(1, suite.quick()))) check_fill(size, Fill::kMixed);
  for (Size size : fitted(layout, fill_sizes(suite.quick()))) {
    for (Fill fill : kAllFills) check_fill(size, fill);
    if (layout.is_tq()) check_fill(size, Fill::kMixed, false);
  }
  check_fill({20480, 20480}, Fill::kTies);
  if (!layout.is_tq()) {
    suite.check(name("quantize", layout, dtype, std::string(rule.name) + "/int8_out"), [&](Random &random) {
      return quantize(layout, rule, dtype, {999, 64}, filled(Fill::kNormal, dtype, 999, 64, {}, random), true, kI8);
    });
  }
  // Large blocks whose sums and maxima are the work of several threads, in sections of their own.
  const int64_t large = suite.quick() ? 200 * kBlock : 3000 * kBlock;
  check_fill({large, large}, Fill::kWide);
  check_fill({large, 300 * kBlock}, Fill::kNormal);
  if (size_of(dtype) != 2) return;
  for (float partner : {1.0f, 65504.0f, 0x1p-14f, 0x1p-24f}) {
    if (layout.is_tq()) break;  // their blocks have more than two elements
    check("all_inputs/beside_" + std::to_string(partner), {2 * 65536, 2}, [&](Random &) { return all_16bit_beside(dtype, partner); });
  }
  const int64_t finite = is(dtype, kF16) ? 2 * 0x7C00 : 2 * 0x7F80;
  check("all_inputs/shuffled", {finite, layout.is_tq() ? int64_t(kBlock) : 64}, [&](Random &random) { return all_16bit(dtype, &random); });
}

// Blocks of three with a magnitude close to half the scale: beside twice it and itself for a maximum, or beside itself and four times
// it for a mean. Scales have every magnitude, subnormal ones and those whose reciprocal is subnormal included.
Bytes around_the_limit(Rule rule, DLDataType dtype, int64_t blocks, Random &random) {
  const int32_t mantissa = corners_of(dtype).mantissa_bits, shift = 23 - mantissa;
  std::vector<float> values;
  for (int64_t i = 0; i < blocks; ++i) {
    uint32_t bits = uint32_t(random.bits()) & 0x7FFFFFFFu;
    if (bits >= 0x7F800000u) bits &= 0x007FFFFFu;
    const float largest = bnb::formats::float_from_bits(bits >> shift << shift), half = largest * 0.5f;
    const float ulp = std::nextafter(half, INFINITY) - half;
    const float x = half + float(random.between(-3, 3)) * std::ldexp(ulp, shift);
    values.push_back(random.sign() * (rule.rule == BNB_ABSMAX ? largest : x));
    values.push_back(random.sign() * x);
    values.push_back(random.sign() * (rule.rule == BNB_ABSMAX ? half : 4.0f * half));
  }
  return narrowed(dtype, values);
}

// Means that show the order of their sum: 2^30 and 2^6 make a tie between two fp32 numbers, and as 2^-23 is half a step of a float64
// there, only those that come together before they come to 2^30 break it.
Bytes order_of_sums(DLDataType dtype, Size size, Random &random) {
  std::vector<float> values(size_t(size.n), 0.0f);
  for (int64_t first = 0; first < size.n; first += size.blocksize) {
    const auto place = [&](float value) { values[size_t(first + random.below(size.blocksize))] = value; };
    for (int64_t i = random.between(1, 6); i > 0; --i) place(0x1p-23f);
    place(-0x1p6f);
    place(0x1p30f);
  }
  return narrowed(dtype, values);
}

void order_cases(Suite &suite, DLDataType dtype) {
  const int64_t blocks = suite.quick() ? 200 : 2000;
  for (int64_t blocksize : {16, 64, 256, 1024, 4096, 65536, 131072}) {
    const Size size{blocksize * (blocksize < 4096 ? blocks : 20), blocksize};
    suite.check(name("quantize", kLayouts[0], dtype, "absmean/order/" + name_of(size)), [&](Random &random) {
      return quantize(kLayouts[0], kRules[0], dtype, size, order_of_sums(dtype, size, random));
    });
  }
}

void limit_cases(Suite &suite, Rule rule, DLDataType dtype) {
  const int64_t blocks = suite.quick() ? 20000 : 400000;
  suite.check(name("quantize", kLayouts[0], dtype, std::string(rule.name) + "/around_the_limit"), [&](Random &random) {
    return quantize(kLayouts[0], rule, dtype, {3 * blocks, 3}, around_the_limit(rule, dtype, blocks, random));
  });
}

void dequantize_cases(Suite &suite, const Layout &layout, DLDataType dtype) {
  const auto check = [&](const std::string &rest, Size size, DLDataType in_dtype = kU8) {
    suite.check(name("dequantize", layout, dtype, rest), [&](Random &random) {
      return dequantize(layout, dtype, size, random_bytes(layout.bytes_of(size.n), random), scales(size.blocks(), random), in_dtype);
    });
  };
  for (Size size : fitted(layout, edge_sizes(1, suite.quick()))) check(name_of(size), size);
  for (Size size : fitted(layout, large_sizes(1, suite.quick()))) check(name_of(size), size);
  if (!layout.is_tq()) check("int8_in", {999, 64}, kI8);
  suite.check(name("dequantize", layout, dtype, "any_scale"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 500 : 10000, blocksize = layout.is_tq() ? int64_t(kBlock) : 36;
    const Size size{blocksize * blocks, blocksize};
    return dequantize(layout, dtype, size, random_bytes(layout.bytes_of(size.n), random), any_floats(blocks, random));
  });
}

}  // namespace

CONFORMANCE(ternary) {
  for (DLDataType dtype : {kF32, kBF16}) order_cases(suite, dtype);
  for (const Layout &layout : kLayouts) {
    for (DLDataType dtype : kFloats) {
      for (Rule rule : kRules) {
        quantize_cases(suite, layout, rule, dtype);
        if (!layout.is_tq()) limit_cases(suite, rule, dtype);
        for (int64_t blocksize : {int64_t(kBlock), suite.bench_elements()}) {
          const Size size{suite.bench_elements(), blocksize};
          const double bytes = double(size.n * size_of(dtype) + layout.bytes_of(size.n)) + 4.0 * double(size.blocks());
          suite.bench(name("quantize", layout, dtype, std::string(rule.name) + "/bs" + std::to_string(blocksize)), bytes,
                      [&](Random &random) {
                        return quantize(layout, rule, dtype, size, filled(Fill::kNormal, dtype, size.n, kBlock, {}, random));
                      });
        }
      }
      dequantize_cases(suite, layout, dtype);
      const Size size{suite.bench_elements(), kBlock};
      const double bytes = double(size.n * size_of(dtype) + layout.bytes_of(size.n)) + 4.0 * double(size.blocks());
      suite.bench(name("dequantize", layout, dtype, "bs256"), bytes, [&](Random &random) {
        return dequantize(layout, dtype, size, random_bytes(layout.bytes_of(size.n), random),
                          std::vector<float>(size_t(size.blocks()), 1.0f));
      });
    }
  }
}
