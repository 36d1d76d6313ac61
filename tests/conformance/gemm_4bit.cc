// SPDX-License-Identifier: MIT
// cgemm_4bit: within the bound of bnb.h of the product in float64, the same bits for every placement and number of threads.
#include <cmath>
#include <cstdlib>
#include <limits>

#include "formats/fp4.h"
#include "formats/nf4.h"
#include "nested.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

enum class Bias { kNone, kSame, kF32 };
enum class Special { kNo, kTiny, kNotFinite };

struct Case {
  int64_t m, n, k, blocksize;
  bnb_quant_type quant_type = BNB_NF4;
  DLDataType dtype = kF32;
  Bias bias = Bias::kNone;
  int64_t nested_blocksize = 0, a_gap = 0, out_gap = 0;
  Special special = Special::kNo;
};

std::string describe(const Case &c) {
  std::string name = std::string("gemm_4bit/") + (c.quant_type == BNB_NF4 ? "nf4/" : "fp4/") + name_of(c.dtype) + "/m" +
                     std::to_string(c.m) + "_n" + std::to_string(c.n) + "_k" + std::to_string(c.k) + "/bs" +
                     std::to_string(c.blocksize);
  if (c.bias != Bias::kNone) name += c.bias == Bias::kSame ? "/bias" : "/bias_fp32";
  if (c.nested_blocksize) name += "/nested" + std::to_string(c.nested_blocksize);
  if (c.a_gap || c.out_gap) name += "/strided";
  if (c.special != Special::kNo) name += c.special == Special::kTiny ? "/tiny" : "/not_finite";
  return name;
}

// The inputs of a case as numbers, and its call.
struct Product {
  Case c;
  std::vector<float> a, bias, absmax;
  Bytes packed;
  Call call;
  int out = 0;

  float weight(int64_t i) const {
    const uint8_t byte = packed[size_t(i / 2)];
    const uint8_t code = i % 2 ? byte & 15 : byte >> 4;
    const float value = c.quant_type == BNB_NF4 ? bnb::formats::nf4::decode(code) : bnb::formats::fp4::decode(code);
    return value * absmax[size_t(i / c.blocksize)];
  }
};

std::vector<float> rounded(DLDataType dtype, std::vector<float> values) {
  const Bytes bytes = narrowed(dtype, values);
  for (size_t i = 0; i < values.size(); ++i) values[i] = value_of(dtype, bytes.data() + int64_t(i) * size_of(dtype));
  return values;
}

// The wider matrix that `view` is the first columns of.
DLTensor first_columns(const DLTensor &wide, int64_t (&shape)[2], int64_t (&strides)[2], int64_t columns) {
  DLTensor view = wide;
  shape[0] = wide.shape[0];
  shape[1] = columns;
  strides[0] = wide.shape[1];
  strides[1] = 1;
  view.shape = shape;
  view.strides = strides;
  return view;
}

void add_scales(Product &p, NestedInputs *nested, Random &random) {
  const Case &c = p.c;
  const int64_t blocks = ceil_div(c.n * c.k, c.blocksize);
  if (c.nested_blocksize) {
    *nested = add_nested(p.call, "absmax", blocks, c.nested_blocksize, random);
    const auto floats = [&](int tensor, int64_t i) { return value_of(kF32, p.call.tensors[size_t(tensor)].content.data() + 4 * i); };
    for (int64_t i = 0; i < blocks; ++i) {
      const float product = floats(nested->code, p.call.tensors[size_t(nested->codes)].content[size_t(i)]) *
                            floats(nested->absmax, i / c.nested_blocksize);
      p.absmax.push_back(product + floats(nested->offset, 0));
    }
    return;
  }
  for (int64_t i = 0; i < blocks; ++i) {
    float scale = std::fabs(random.normal()) + 0.01f;
    if (c.special == Special::kTiny) scale *= 1e-37f;
    if (c.special == Special::kNotFinite && random.one_in(7)) {
      scale = random.one_in(2) ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    }
    p.absmax.push_back(scale);
  }
  nested->codes = p.call.input("absmax", kF32, {blocks}, bytes_of(p.absmax));
}

Product make(const Case &c, Random &random) {
  Product p;
  p.c = c;
  for (int64_t i = 0; i < c.m * c.k; ++i) {
    float value = random.normal() * (random.one_in(50) ? 30.0f : 1.0f);
    if (c.special == Special::kNotFinite && random.one_in(c.k * 3)) value = std::numeric_limits<float>::infinity();
    p.a.push_back(value);
  }
  p.a = rounded(c.dtype, p.a);
  p.packed = random_bytes(ceil_div(c.n * c.k, 2), random);
  const DLDataType bias_dtype = c.bias == Bias::kSame ? c.dtype : kF32;
  for (int64_t i = 0; i < c.n && c.bias != Bias::kNone; ++i) p.bias.push_back(random.normal());
  p.bias = rounded(bias_dtype, p.bias);

  const int A = p.call.input("A", c.dtype, {c.m, c.k}, narrowed(c.dtype, p.a), c.a_gap ? c.k + c.a_gap : 0);
  const int B = p.call.input("B", kU8, {int64_t(p.packed.size()), 1}, p.packed);
  NestedInputs nested{};
  add_scales(p, &nested, random);
  const int bias = c.bias == Bias::kNone ? -1 : p.call.input("bias", bias_dtype, {c.n}, narrowed(bias_dtype, p.bias));
  p.out = p.call.output("out", c.dtype, {c.m, c.n + c.out_gap}, Nan::kAny);
  p.call.invoke = [=, out = p.out](DLTensor *const *t) {
    int64_t shape[2], strides[2];
    DLTensor view = first_columns(*t[out], shape, strides, c.n);
    const bnb_nested description = c.nested_blocksize ? nested.describe(t) : bnb_nested{};
    return cgemm_4bit(t[A], t[B], t[nested.codes], c.nested_blocksize ? &description : nullptr, c.quant_type, c.blocksize,
                      bias < 0 ? nullptr : t[bias], &view, nullptr);
  };
  return p;
}

// What bnb.h says of the rounding of weights, for the instruction sets of docs/kernels.md that multiply in bf16.
double weight_error(const Target &target, DLDataType dtype) {
  const bool bf16_products = target.name == "cpu/avx512_bf16" || target.name == "cpu/avx512_amx";
  if (!bf16_products || is(dtype, kF32)) return 0.0;
  return is(dtype, kF16) ? 0x1p-15 : 0x1p-8;
}

// "" or the first output that is further from the product in float64 than bnb.h allows.
std::string beyond_bound(const Product &p, const Target &target, const Bytes &out) {
  const Case &c = p.c;
  const double u = is(c.dtype, kF32) ? 0x1p-24 : is(c.dtype, kF16) ? 0x1p-11 : 0x1p-8;
  double largest_absmax = 0.0;
  for (float scale : p.absmax) largest_absmax = std::fmax(largest_absmax, std::fabs(double(scale)));
  for (int64_t n = 0; n < c.n; ++n) {
    std::vector<double> w;
    for (int64_t k = 0; k < c.k; ++k) w.push_back(double(p.weight(n * c.k + k)));
    for (int64_t m = 0; m < c.m; ++m) {
      double want = p.bias.empty() ? 0.0 : double(p.bias[size_t(n)]), sum = std::fabs(want), tiny = 0.0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double a = double(p.a[size_t(m * c.k + k)]), product = a * w[size_t(k)];
        want += product;
        sum += std::fabs(product);
        tiny += 1.0 + std::fabs(a);
      }
      const double got = double(value_of(c.dtype, out.data() + (m * (c.n + c.out_gap) + n) * size_of(c.dtype)));
      if (!std::isfinite(want)) {
        if (std::isfinite(got)) return "out[" + std::to_string(m) + ", " + std::to_string(n) + "] must not be finite";
        continue;
      }
      const double bound = u * std::fabs(got) + (weight_error(target, c.dtype) + double(c.k + 8) * 0x1p-24) * sum +
                           0x1p-125 * tiny * (1.0 + largest_absmax) + (is(c.dtype, kF16) ? 0x1p-25 : 0.0);
      const bool overflow = (std::isinf(got) && std::fabs(want) + bound >= double(corners_of(c.dtype).largest)) ||
                            (!std::isfinite(got) && sum >= 0x1p127);
      if (!overflow && !(std::fabs(got - want) <= bound)) {
        char text[160];
        std::snprintf(text, sizeof text, "out[%lld, %lld] is %.9g, must be %.9g within %.3g", (long long)m, (long long)n, got, want,
                      bound);
        return text;
      }
    }
  }
  return "";
}

// The columns between rows of out still hold the filler.
std::string gaps_written(const Case &c, const Bytes &out, uint8_t filler) {
  const int64_t row = (c.n + c.out_gap) * size_of(c.dtype);
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t i = c.n * size_of(c.dtype); i < row; ++i) {
      if (out[size_t(m * row + i)] != filler) return "bytes between the rows of out were written";
    }
  }
  return "";
}

std::string test(const Product &p, const Target &target) {
  constexpr Placement kPlacements[] = {{"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
                                       {"at the end of a page, 2 threads", true, 0, false, true, 2, 0xA5},
                                       {"1 byte off, 5 threads", false, 1, true, false, 5, 0xA5}};
  std::vector<Bytes> first, again;
  for (const Placement &placement : kPlacements) {
    std::vector<Bytes> &results = first.empty() ? first : again;
    std::string problem = run(p.call, target, placement, &results);
    if (problem.empty() && &results == &first) problem = beyond_bound(p, target, first[size_t(p.out)]);
    if (problem.empty()) problem = gaps_written(p.c, results[size_t(p.out)], placement.filler);
    if (problem.empty() && &results == &again) problem = compare(p.call, again, first);
    if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
    if (!problem.empty()) return problem + "\n     buffers " + placement.name;
  }
  return "";
}

void check(Suite &suite, const Case &c) {
  suite.check_on_each(describe(c), [&](const Target &target, Random &random) { return test(make(c, random), target); });
}

// Shapes around every edge of the kernels: lanes, loads of 64 and 128 codes, tiles, stretches of K, panels.
std::vector<Case> shapes(bool quick) {
  std::vector<Case> cases;
  for (int64_t m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33}) cases.push_back({m, 37, 320, 64});
  for (int64_t n : {1, 5, 12, 13, 16, 31, 32, 33, 64, 65}) cases.push_back({6, n, 128, 64});
  for (int64_t k : {0, 1, 2, 3, 8, 31, 63, 64, 65, 127, 128, 129, 192, 257}) {
    for (int64_t m : {1, 6, 18}) cases.push_back({m, 9, k, 64});
  }
  for (int64_t blocksize : {2, 4, 6, 8, 10, 16, 24, 32, 96, 128, 192, 256, 384, 512, 4096}) {
    for (int64_t m : {1, 5, 20}) {
      cases.push_back({m, 7, 3 * blocksize, blocksize});
      cases.push_back({m, 7, 768, blocksize});
    }
  }
  for (int64_t m : {0, 1, 6, 18}) cases.push_back({m, 0, 64, 64});
  cases.push_back({0, 16, 64, 64});
  if (quick) return cases;
  for (int64_t m : {1, 4, 17, 70}) cases.push_back({m, 300, 2304, 64});  // several panels, several stretches
  for (int64_t m : {260, 515}) cases.push_back({m, 45, 1088, 64});
  cases.push_back({2, 9, 20480, 64});  // more scales in a row than are read at once
  cases.push_back({20, 9, 20480, 32});
  return cases;
}

}  // namespace

CONFORMANCE(gemm_4bit) {
  for (Case c : shapes(suite.quick())) {
    for (DLDataType dtype : kFloats) {
      c.dtype = dtype;
      c.quant_type = c.quant_type == BNB_NF4 ? BNB_FP4 : BNB_NF4;
      check(suite, c);
    }
  }
  for (DLDataType dtype : kFloats) {
    for (bnb_quant_type quant_type : {BNB_NF4, BNB_FP4}) {
      for (int64_t m : {1, 3, 6, 40}) {
        for (Bias bias : {Bias::kSame, Bias::kF32}) check(suite, {m, 70, 256, 64, quant_type, dtype, bias});
        check(suite, {m, 70, 256, 64, quant_type, dtype, Bias::kSame, 0, 3, 5});
        check(suite, {m, 45, 255, 64, quant_type, dtype, Bias::kSame, 0, 1, 1});
        for (int64_t nested : {256, 7, 1}) check(suite, {m, 33, 512, 64, quant_type, dtype, Bias::kNone, nested});
        check(suite, {m, 33, 99, 32, quant_type, dtype, Bias::kNone, 256});
        check(suite, {m, 24, 256, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kTiny});
        check(suite, {m, 24, 256, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
        check(suite, {m, 24, 250, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
      }
    }
  }
  for (DLDataType dtype : kFloats) {
    for (int64_t m : {1, 8, 16, 128}) {
      const Case c{m, 4096, 4096, 64, BNB_NF4, dtype};
      suite.bench(describe(c), double(c.n * c.k) * 0.5625, [&](Random &random) { return make(c, random).call; });
    }
  }
}
