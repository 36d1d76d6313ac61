// SPDX-License-Identifier: MIT
// cgemm_ternary: the reference's bits where a scale is for a row or for more, else within the bound of bnb.h; and clinear_ternary, which
// is what its two parts make.
#include <cmath>
#include <cstdio>
#include <limits>

#include "formats/ternary.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;
using namespace bnb::formats::ternary;

namespace {

enum class Fill8 { kAny, kLargest, kTiny, kNotFinite };  // kLargest: sums as large as they get

struct Case {
  int64_t m, n, k, blocksize;
  bnb_quant_type quant_type = BNB_TERNARY;
  DLDataType dtype = kF32;
  bool bias = false, one_row_stat = false;
  int64_t gap = 0;  // elements between rows of A and of out
  Fill8 fill = Fill8::kAny;

  bool tq() const { return quant_type != BNB_TERNARY; }
  int64_t block_bytes() const { return quant_type == BNB_TQ1_0 ? int64_t(TQ1::kBytes) : int64_t(TQ2::kBytes); }
  int64_t code_bytes() const { return tq() ? n * k / kBlock * block_bytes() : ceil_div(n * k, TwoBits::kCodes); }
  int64_t scales() const { return tq() ? 0 : ceil_div(n * k, blocksize); }
  int64_t block() const { return tq() ? int64_t(kBlock) : blocksize < k ? blocksize : k; }
  int64_t blocks_of_row() const { return k == 0 ? 0 : k / block(); }
};

std::string describe(const Case &c) {
  const char *format = c.quant_type == BNB_TERNARY ? "ternary/" : c.quant_type == BNB_TQ1_0 ? "tq1_0/" : "tq2_0/";
  std::string name = std::string("gemm_ternary/") + format + name_of(c.dtype) + "/m" + std::to_string(c.m) + "_n" +
                     std::to_string(c.n) + "_k" + std::to_string(c.k);
  if (!c.tq()) name += "/bs" + std::to_string(c.blocksize);
  if (c.bias) name += "/bias";
  if (c.one_row_stat) name += "/one_row_stat";
  if (c.gap) name += "/strided";
  if (c.fill != Fill8::kAny) name += c.fill == Fill8::kLargest ? "/largest" : c.fill == Fill8::kTiny ? "/tiny" : "/not_finite";
  return name;
}

// The inputs of a case as numbers, and its call.
struct Product {
  Case c;
  Bytes a, codes;
  std::vector<float> scales, row_stats, bias;
  Call call;
  int out = 0;

  int weight(int64_t i) const {
    if (!c.tq()) return value(TwoBits::code(codes[size_t(i / TwoBits::kCodes)], int(i % TwoBits::kCodes)));
    const uint8_t *block = codes.data() + i / kBlock * c.block_bytes();
    const Place place = c.quant_type == BNB_TQ1_0 ? TQ1::place_of(int(i % kBlock)) : TQ2::place_of(int(i % kBlock));
    return value(c.quant_type == BNB_TQ1_0 ? TQ1::code(block[place.byte], place.index) : TQ2::code(block[place.byte], place.index));
  }
  float scale(int64_t i) const {
    return c.tq() ? value_of(kF16, codes.data() + (i / kBlock + 1) * c.block_bytes() - 2) : scales[size_t(i / c.blocksize)];
  }
};

float draw_scale(const Case &c, Random &random) {
  const float scale = std::fabs(random.normal()) + 0.01f;
  if (c.fill == Fill8::kTiny) return scale * (c.tq() ? 1e-6f : 1e-38f);
  if (c.fill == Fill8::kNotFinite && random.one_in(9)) {
    return random.one_in(2) ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  return scale;
}

// Codes of all bytes, those that no quantizer writes, too.
Bytes draw_codes(const Case &c, Random &random) {
  Bytes codes = random_bytes(c.code_bytes(), random);
  if (c.fill == Fill8::kLargest) codes.assign(codes.size(), 0xFF);  // all of code 3, or of 2
  for (size_t end = size_t(c.block_bytes()); c.tq() && end <= codes.size(); end += size_t(c.block_bytes())) {
    const Bytes half = narrowed(kF16, {draw_scale(c, random)});
    codes[end - 2] = half[0];
    codes[end - 1] = half[1];
  }
  return codes;
}

Product make(const Case &c, Random &random) {
  Product p;
  p.c = c;
  p.a = random_bytes(c.m * c.k, random);
  if (c.fill == Fill8::kLargest) p.a.assign(p.a.size(), random.one_in(2) ? 0x80 : 0x7F);
  p.codes = draw_codes(c, random);
  for (int64_t i = 0; i < c.scales(); ++i) p.scales.push_back(draw_scale(c, random));
  for (int64_t i = 0; i < (c.one_row_stat ? 1 : c.m); ++i) {
    p.row_stats.push_back(c.fill == Fill8::kTiny && random.one_in(2) ? 1e30f : std::fabs(random.normal()));
  }
  for (int64_t i = 0; i < c.n; ++i) p.bias.push_back(random.normal());

  Call &call = p.call;
  const int A = call.input("A", kI8, {c.m, c.k}, p.a, c.gap ? c.k + c.gap : 0);
  const int B = call.input("B", c.tq() || random.one_in(2) ? kU8 : kI8, {c.code_bytes(), 1}, p.codes);
  const int rows = call.input("row_stats", kF32, {int64_t(p.row_stats.size())}, bytes_of(p.row_stats));
  const int scale = c.tq() ? -1 : call.input("scale", kF32, {c.scales()}, bytes_of(p.scales));
  const int bias = c.bias ? call.input("bias", kF32, {c.n}, bytes_of(p.bias)) : -1;
  p.out = call.updated("out", c.dtype, {c.m, c.n + c.gap}, random_bytes(c.m * (c.n + c.gap) * size_of(c.dtype), random), Nan::kAny);
  call.invoke = [=, out = p.out](DLTensor *const *t) {
    int64_t shape[2] = {c.m, c.n}, strides[2] = {c.n + c.gap, 1};
    DLTensor view = *t[out];
    view.shape = shape;
    view.strides = strides;
    return cgemm_ternary(t[A], t[B], t[rows], scale < 0 ? nullptr : t[scale], c.quant_type, c.blocksize,
                         bias < 0 ? nullptr : t[bias], &view, nullptr);
  };
  return p;
}

// What bnb.h says of one output.
struct Wanted {
  double exact = 0.0, sum = 0.0, tiny = 0.0;  // the value; S; and 2^125 times what subnormals may cost
};

Wanted wanted(const Product &p, int64_t m, int64_t n) {
  const Case &c = p.c;
  const double row_stat = double(p.row_stats[size_t(c.one_row_stat ? 0 : m)]);
  Wanted w;
  double largest = 0.0;
  for (int64_t k = 0; k < c.k; ++k) {
    const double scale = double(p.scale(n * c.k + k));
    const double product = double(int8_t(p.a[size_t(m * c.k + k)])) * double(p.weight(n * c.k + k)) * scale * row_stat / 127.0;
    w.exact += product;
    w.sum += std::fabs(product);
    largest = std::fmax(largest, std::fabs(scale));
  }
  if (c.bias) w.exact += double(p.bias[size_t(n)]);
  if (c.bias) w.sum += std::fabs(double(p.bias[size_t(n)]));
  w.tiny = double(c.k) * (1.0 + row_stat) * (1.0 + largest);
  return w;
}

// "" or the first output that is further from the exact one than bnb.h allows.
std::string beyond_bound(const Product &p, const Bytes &out) {
  const Case &c = p.c;
  const double u = is(c.dtype, kF32) ? 0x1p-24 : is(c.dtype, kF16) ? 0x1p-11 : 0x1p-8;
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t n = 0; n < c.n; ++n) {
      const Wanted w = wanted(p, m, n);
      const double got = double(value_of(c.dtype, out.data() + (m * (c.n + c.gap) + n) * size_of(c.dtype)));
      if (!std::isfinite(w.exact)) {
        if (std::isfinite(got)) return "out[" + std::to_string(m) + ", " + std::to_string(n) + "] must not be finite";
        continue;
      }
      const double bound = u * std::fabs(got) + double(c.blocks_of_row() + 8) * 0x1p-24 * w.sum + 0x1p-125 * w.tiny +
                           (is(c.dtype, kF16) ? 0x1p-25 : 0.0);
      const bool overflow = std::isinf(got) && std::fabs(w.exact) + bound >= double(corners_of(c.dtype).largest);
      if (overflow || std::fabs(got - w.exact) <= bound) continue;
      char text[160];
      std::snprintf(text, sizeof text, "out[%lld, %lld] is %.9g, must be %.9g within %.3g", (long long)m, (long long)n, got, w.exact,
                    bound);
      return text;
    }
  }
  return "";
}

constexpr Placement kAround[] = {{"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
                                 {"at the end of a page, 2 threads", true, 0, false, true, 2, 0xA5},
                                 {"1 byte off, 5 threads", false, 1, true, false, 5, 0xA5}};

// Within the bound, and the same wherever it lies.
std::string test(const Product &p, const Target &target) {
  std::vector<Bytes> first, again;
  for (const Placement &placement : kAround) {
    std::vector<Bytes> &results = first.empty() ? first : again;
    std::string problem = run(p.call, target, placement, &results);
    if (problem.empty() && &results == &first) problem = beyond_bound(p, results[size_t(p.out)]);
    if (problem.empty() && &results == &again) problem = compare(p.call, again, first);
    if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
    if (!problem.empty()) return problem + "\n     buffers " + placement.name;
  }
  return "";
}

void check_product(Suite &suite, const Case &c) {
  const bool exact = c.blocks_of_row() <= 1;
  if (exact) suite.check(describe(c), [&](Random &random) { return make(c, random).call; });
  if (exact && suite.quick()) return;
  suite.check_on_each(describe(c) + "/bound", [&](const Target &target, Random &random) { return test(make(c, random), target); });
}

// What the first half of a layer makes of its activations, quantized on the CPU: its bits are those of every device.
struct Quantized {
  Bytes codes;
  std::vector<float> row_stats;

  Quantized(const Case &c, bool per_tensor, Bytes content) : codes(size_t(c.m * c.k)), row_stats(size_t(per_tensor ? 1 : c.m)) {
    int64_t matrix[2] = {c.m, c.k}, count = int64_t(row_stats.size());
    if (per_tensor) matrix[0] = 1, matrix[1] = c.m * c.k;
    constexpr DLDevice kCpu{kDLCPU, 0};
    DLTensor a{content.data(), kCpu, 2, c.dtype, matrix, nullptr, 0}, ca{codes.data(), kCpu, 2, kI8, matrix, nullptr, 0};
    DLTensor sa{row_stats.data(), kCpu, 1, kF32, &count, nullptr, 0};
    if (cquantize_int8_vectorwise(&a, 0.0f, &ca, &sa, nullptr, nullptr) != BNB_OK) codes.clear();
  }
};

// The whole layer in one call, or (parts) its second half with what the first one makes.
Call layer(const Case &c, bool per_tensor, bool parts, Random &random) {
  Call call;
  std::vector<float> values;
  for (int64_t i = 0; i < c.m * c.k; ++i) values.push_back(random.normal());
  if (!values.empty() && random.one_in(4)) values[values.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  const Bytes content = narrowed(c.dtype, values);
  std::vector<float> scales, bias_values;
  for (int64_t i = 0; i < c.scales(); ++i) scales.push_back(draw_scale(c, random));
  for (int64_t n = 0; n < c.n; ++n) bias_values.push_back(random.normal());
  const int A = call.input("A", c.dtype, {c.m, c.k}, content, c.gap ? c.k + c.gap : 0);
  const int B = call.input("B", kU8, {c.code_bytes()}, draw_codes(c, random));
  const int scale = c.tq() ? -1 : call.input("scale", kF32, {c.scales()}, bytes_of(scales));
  const int bias = c.bias ? call.input("bias", kF32, {c.n}, bytes_of(bias_values)) : -1;
  const int out = call.output("out", c.dtype, {c.m, c.n}, Nan::kAny);
  int CA = -1, SA = -1;
  if (parts) {
    const Quantized half(c, per_tensor, content);
    CA = call.input("CA", kI8, {c.m, c.k}, half.codes);
    SA = call.input("SA", kF32, {int64_t(half.row_stats.size())}, bytes_of(half.row_stats));
  }
  call.invoke = [=](DLTensor *const *t) {
    const DLTensor *scale_tensor = scale < 0 ? nullptr : t[scale], *bias_tensor = bias < 0 ? nullptr : t[bias];
    if (!parts) return clinear_ternary(t[A], t[B], scale_tensor, c.quant_type, c.blocksize, per_tensor, bias_tensor, t[out], nullptr);
    return cgemm_ternary(t[CA], t[B], t[SA], scale_tensor, c.quant_type, c.blocksize, bias_tensor, t[out], nullptr);
  };
  return call;
}

void check_layer(Suite &suite, const Case &c, bool per_tensor) {
  suite.check_on_each(describe(c) + "/linear" + (per_tensor ? "/per_tensor" : ""), [&](const Target &target, Random &random) {
    Random same = random;
    const Call whole = layer(c, per_tensor, false, random), parts = layer(c, per_tensor, true, same);
    std::vector<Bytes> want, got;
    std::string problem = run(parts, target, kAround[0], &want);
    want.resize(whole.tensors.size());  // `parts` has more inputs behind
    for (const Placement &placement : kAround) {
      if (problem.empty()) problem = run(whole, target, placement, &got);
      if (problem.empty()) problem = compare(whole, got, want);
    }
    return problem;
  });
}

// Every edge of the kernels: lanes, loads of 128 and 256 codes, tiles, stretches of K, panels; rows that do not begin with a byte.
std::vector<Case> shapes(bool quick) {
  std::vector<Case> list;
  const int64_t all = INT64_MAX;
  for (int64_t m : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 49}) list.push_back({m, 37, 320, all});
  for (int64_t n : {0, 1, 5, 12, 13, 15, 16, 17, 32, 33, 65}) {
    for (int64_t m : {1, 6, 18}) list.push_back({m, n, 132, all});
  }
  for (int64_t k : {0, 1, 2, 3, 4, 5, 16, 31, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1025, 1344}) {
    for (int64_t m : {1, 3, 35}) list.push_back({m, 21, k, all});
  }
  for (int64_t rows : {1, 2, 3}) {  // that share a scale
    for (int64_t m : {1, 20}) list.push_back({m, 19, 140, 140 * rows});
  }
  for (int64_t blocksize : {1, 2, 3, 4, 5, 7, 8, 12, 16, 32, 48, 64, 96, 100, 128, 192, 256, 384, 512, 640, 1024}) {
    for (int64_t m : {1, 2, 5, 20, 40}) {
      list.push_back({m, 7, 3 * blocksize, blocksize});
      const int64_t k = quick && 192 % blocksize == 0 && 192 > blocksize ? 192 : 768;
      if (k % blocksize == 0 && k > blocksize) list.push_back({m, 18, k, blocksize});
    }
  }
  list.push_back({70, 130, 60, 20});  // more tiles than a small device has at once
  for (bnb_quant_type tq : {BNB_TQ1_0, BNB_TQ2_0}) {
    for (int64_t m : {0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33}) list.push_back({m, 37, 512, 0, tq});
    for (int64_t k : {0, 256, 768, 1280}) {
      for (int64_t m : {1, 6, 20}) list.push_back({m, 19, k, 0, tq});
    }
  }
  if (quick) return list;
  for (int64_t m : {4, 70, 300}) {
    list.push_back({m, 300, 1400, all});
    list.push_back({m, 300, 1360, all});
    list.push_back({m, 300, 1408, 64});
    list.push_back({m, 300, 1536, 0, BNB_TQ2_0});
    list.push_back({m, 300, 1536, 0, BNB_TQ1_0});
  }
  list.push_back({530, 70, 640, 128});
  return list;
}

void check_varieties(Suite &suite, Turns &turns, Case c) {
  for (int64_t m : {1, 3, 19, 40, 66}) {
    c.m = m;
    for (bool bias : {false, true}) {
      c.bias = bias;
      c.gap = bias ? 3 : 0;
      c.one_row_stat = !bias;
      turns.each_dtype([&](DLDataType dtype) {
        c.dtype = dtype;
        check_product(suite, c);
      });
    }
    for (Fill8 fill : {Fill8::kLargest, Fill8::kTiny, Fill8::kNotFinite}) {
      Case special = c;
      special.fill = fill;
      turns.each_dtype([&](DLDataType dtype) {
        special.dtype = dtype;
        check_product(suite, special);
      });
    }
    for (bool per_tensor : {false, true}) {
      turns.each_dtype([&](DLDataType dtype) {
        c.dtype = dtype;
        check_layer(suite, c, per_tensor);
      });
    }
  }
}

}  // namespace

CONFORMANCE(gemm_ternary) {
  for (const Case &c : shapes(suite.quick())) check_product(suite, c);
  Turns turns(suite.quick());
  check_varieties(suite, turns, {1, 33, 260, INT64_MAX});
  check_varieties(suite, turns, {1, 33, 255, INT64_MAX});
  check_varieties(suite, turns, {1, 33, 192, 64});
  for (bnb_quant_type tq : {BNB_TQ1_0, BNB_TQ2_0}) {
    check_varieties(suite, turns, {1, 33, 256, 0, tq});
    check_varieties(suite, turns, {1, 33, 512, 0, tq});
  }
  if (!suite.quick()) {  // the largest sums that fit
    for (int64_t m : {1, 20}) {
      const Case c{m, 2, 8388607, INT64_MAX, BNB_TERNARY, kF32, false, false, 0, Fill8::kLargest};
      suite.check_on_each(describe(c), [&](const Target &target, Random &random) {
        std::vector<Bytes> results;
        const Product p = make(c, random);
        const std::string problem = run(p.call, target, kPlain, &results);
        return problem.empty() ? beyond_bound(p, results[size_t(p.out)]) : problem;
      });
    }
  }
  for (int64_t m : {1, 16, 128, 512}) {
    for (const Case &c : {Case{m, 4096, 4096, INT64_MAX}, Case{m, 4096, 4096, 64}, Case{m, 4096, 4096, 0, BNB_TQ1_0},
                          Case{m, 4096, 4096, 0, BNB_TQ2_0}}) {
      suite.bench(describe(c), double(c.code_bytes() + 4 * c.scales()), [&](Random &random) { return make(c, random).call; });
    }
  }
}
