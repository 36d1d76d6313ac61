// SPDX-License-Identifier: MIT
// cgemm_int8 and cgemm_int8_scaled are exact; cgemm_int8_mixed is within the bound of bnb.h; clinear_int8 is what its parts make.
#include <cmath>
#include <cstdio>
#include <limits>

#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

constexpr DLDataType kI64{kDLInt, 64, 1};

// kLowest: -128 everywhere, whose products make the largest sums; kLargest: 127, whose odd ones show where a sum was rounded
enum class Codes { kAny, kLowest, kLargest, kMixedSigns };

struct Shape {
  int64_t m, n, k;
  int64_t gap = 0;  // elements between rows, of all that may have some
  Codes codes = Codes::kAny;
};

std::string text_of(const Shape &s) {
  std::string text = "m" + std::to_string(s.m) + "_n" + std::to_string(s.n) + "_k" + std::to_string(s.k);
  if (s.gap) text += "/strided";
  if (s.codes != Codes::kAny) text += s.codes == Codes::kLowest ? "/lowest" : s.codes == Codes::kLargest ? "/largest" : "/signs";
  return text;
}

Bytes codes_of(Codes codes, int64_t n, Random &random) {
  Bytes bytes = random_bytes(n, random);
  for (uint8_t &byte : bytes) {
    if (codes == Codes::kLowest) byte = 0x80;
    if (codes == Codes::kLargest) byte = 0x7F;
    if (codes == Codes::kMixedSigns) byte = random.one_in(2) ? 0x80 : 0x7F;
  }
  return bytes;
}

int add_matrix(Call &call, const char *name, DLDataType dtype, int64_t rows, int64_t cols, int64_t gap, Bytes content) {
  return call.input(name, dtype, {rows, cols}, std::move(content), gap ? cols + gap : 0);
}

// An output whose rows have other numbers between them, which have to stay.
struct Out {
  int tensor;
  int64_t cols;

  Out(Call &call, DLDataType dtype, const Shape &s, Random &random)
      : tensor(call.updated("out", dtype, {s.m, s.n + s.gap}, content(dtype, s, random), Nan::kAny)), cols(s.n) {}

  static Bytes content(DLDataType dtype, const Shape &s, Random &random) {
    return random_bytes(s.m * (s.n + s.gap) * size_of(dtype), random);
  }

  // The descriptor that the call gets.
  struct View {
    int64_t shape[2], strides[2];
    DLTensor tensor;
  };
  void look(DLTensor *const *t, View *view) const {
    const DLTensor &wide = *t[tensor];
    view->tensor = wide;
    view->shape[0] = wide.shape[0];
    view->shape[1] = cols;
    view->strides[0] = wide.shape[1];
    view->strides[1] = 1;
    view->tensor.shape = view->shape;
    view->tensor.strides = view->strides;
  }
};

Call integers(const Shape &s, Random &random) {
  Call call;
  const int A = add_matrix(call, "A", kI8, s.m, s.k, s.gap, codes_of(s.codes, s.m * s.k, random));
  const bool aligned = (s.k + s.gap) % 16 == 0;  // the rows of both matrices
  const int B = add_matrix(call, "B", kI8, s.n, s.k, s.gap && !aligned ? s.gap + 2 : s.gap, codes_of(s.codes, s.n * s.k, random));
  const Out out(call, kI32, s, random);
  call.invoke = [=](DLTensor *const *t) {
    Out::View view;
    out.look(t, &view);
    return cgemm_int8(t[A], t[B], &view.tensor, nullptr);
  };
  return call;
}

// bias: NULL or its dtype.
Call scaled(const Shape &s, DLDataType dtype, const DLDataType *bias_dtype, Random &random) {
  Call call;
  const int A = add_matrix(call, "A", kI8, s.m, s.k, s.gap, codes_of(s.codes, s.m * s.k, random));
  const int B = add_matrix(call, "B", kI8, s.n, s.k, 0, codes_of(s.codes, s.n * s.k, random));
  const int rows = call.input("row_stats", kF32, {s.m}, bytes_of(scales(s.m, random)));
  const int cols = call.input("col_stats", kF32, {s.n}, bytes_of(scales(s.n, random)));
  const int bias = bias_dtype ? call.input("bias", *bias_dtype, {s.n}, filled(Fill::kWide, *bias_dtype, s.n, s.n, {}, random)) : -1;
  const Out out(call, dtype, s, random);
  call.invoke = [=](DLTensor *const *t) {
    Out::View view;
    out.look(t, &view);
    return cgemm_int8_scaled(t[A], t[B], t[rows], t[cols], bias < 0 ? nullptr : t[bias], &view.tensor, nullptr);
  };
  return call;
}

// A product with outlier columns, and what is needed to judge it.
struct Mixed {
  Shape s;
  DLDataType dtype;
  std::vector<float> a, row_stats, col_stats, bias;
  Bytes ca, cb;
  std::vector<int64_t> outliers;
  Call call;
  int out = 0;
};

Mixed make_mixed(const Shape &s, DLDataType dtype, int64_t outliers, Random &random) {
  Mixed p;
  p.s = s;
  p.dtype = dtype;
  for (int64_t k = 0; k < s.k && int64_t(p.outliers.size()) < outliers; ++k) {
    if (random.below(s.k - k) < outliers - int64_t(p.outliers.size())) p.outliers.push_back(k);
  }
  for (int64_t i = 0; i < s.m * s.k; ++i) p.a.push_back(random.normal() * 8.0f);
  const Bytes a_bytes = narrowed(dtype, p.a);
  for (size_t i = 0; i < p.a.size(); ++i) p.a[i] = value_of(dtype, a_bytes.data() + int64_t(i) * size_of(dtype));
  p.ca = random_bytes(s.m * s.k, random);
  for (int64_t column : p.outliers) {
    for (int64_t m = 0; m < s.m; ++m) p.ca[size_t(m * s.k + column)] = 0;
  }
  p.cb = random_bytes(s.n * s.k, random);
  for (int64_t m = 0; m < s.m; ++m) p.row_stats.push_back(std::fabs(random.normal()));
  for (int64_t n = 0; n < s.n; ++n) p.col_stats.push_back(std::fabs(random.normal()));
  for (int64_t n = 0; n < s.n; ++n) p.bias.push_back(random.normal());
  Call &call = p.call;
  const int A = add_matrix(call, "A", dtype, s.m, s.k, s.gap, a_bytes);
  const int CA = add_matrix(call, "CA", kI8, s.m, s.k, s.gap ? s.gap + 1 : 0, p.ca), CB = call.input("CB", kI8, {s.n, s.k}, p.cb);
  const int rows = call.input("row_stats", kF32, {s.m}, bytes_of(p.row_stats));
  const int cols = call.input("col_stats", kF32, {s.n}, bytes_of(p.col_stats));
  const int list = call.input("outlier_cols", kI64, {int64_t(p.outliers.size())}, bytes_of(p.outliers));
  const int bias = call.input("bias", kF32, {s.n}, bytes_of(p.bias));
  const Out out(call, dtype, s, random);
  p.out = out.tensor;
  call.invoke = [=](DLTensor *const *t) {
    Out::View view;
    out.look(t, &view);
    return cgemm_int8_mixed(t[A], t[CA], t[CB], t[rows], t[cols], t[list], t[bias], &view.tensor, nullptr);
  };
  return p;
}

std::string judge(const Mixed &p, const Bytes &out) {
  const Shape &s = p.s;
  const double u = is(p.dtype, kF32) ? 0x1p-24 : is(p.dtype, kF16) ? 0x1p-11 : 0x1p-8;
  const double count = double(p.outliers.size());
  for (int64_t m = 0; m < s.m; ++m) {
    for (int64_t n = 0; n < s.n; ++n) {
      int64_t products = 0;
      for (int64_t k = 0; k < s.k; ++k) products += int8_t(p.ca[size_t(m * s.k + k)]) * int8_t(p.cb[size_t(n * s.k + k)]);
      const double bias = double(p.bias[size_t(n)]);
      double want = double(products) * double(p.row_stats[size_t(m)]) * double(p.col_stats[size_t(n)]) / (127.0 * 127.0);
      double sum = std::fabs(want) + std::fabs(bias), largest = 0.0;
      want += bias;
      for (int64_t k : p.outliers) {
        const double a = double(p.a[size_t(m * s.k + k)]);
        const float w = float(int8_t(p.cb[size_t(n * s.k + k)])) * p.col_stats[size_t(n)] * (1.0f / 127.0f);
        want += a * double(w);
        sum += std::fabs(a * double(w));
        largest = std::fmax(largest, std::fabs(a));
      }
      const double got = double(value_of(p.dtype, out.data() + (m * (s.n + s.gap) + n) * size_of(p.dtype)));
      const double bound = u * std::fabs(got) + (count + 8.0) * 0x1p-24 * sum + 0x1p-125 * (count + 1.0) * (1.0 + largest) +
                           (is(p.dtype, kF16) ? 0x1p-25 : 0.0);
      const bool overflow = std::isinf(got) && std::fabs(want) + bound >= double(corners_of(p.dtype).largest);
      if (overflow || std::fabs(got - want) <= bound) continue;
      char text[160];
      std::snprintf(text, sizeof text, "out[%lld, %lld] is %.9g, must be %.9g within %.3g", (long long)m, (long long)n, got, want, bound);
      return text;
    }
  }
  return "";
}

constexpr Placement kAround[] = {{"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
                                 {"at the end of a page, 2 threads", true, 0, false, true, 2, 0xA5},
                                 {"1 byte off, 5 threads", false, 1, true, false, 5, 0xA5}};

// Within the bound, and the same wherever it lies.
std::string test_mixed(const Mixed &p, const Target &target) {
  std::vector<Bytes> first, again;
  for (const Placement &placement : kAround) {
    std::vector<Bytes> &results = first.empty() ? first : again;
    std::string problem = run(p.call, target, placement, &results);
    if (problem.empty()) problem = judge(p, results[size_t(p.out)]);
    if (problem.empty() && &results == &again) problem = compare(p.call, again, first);
    if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
    if (!problem.empty()) return problem + "\n     buffers " + placement.name;
  }
  return "";
}

struct Layer {
  Shape s;
  DLDataType dtype;
  float threshold;
  bool bias;
};

// What the first half of a layer makes of its activations, quantized on the CPU: its bits are those of every device.
struct Quantized {
  Bytes codes;
  std::vector<float> row_stats;
  std::vector<int64_t> columns;

  Quantized(const Layer &c, Bytes content) : codes(size_t(c.s.m * c.s.k)), row_stats(size_t(c.s.m)) {
    Bytes marks(static_cast<size_t>(c.s.k));
    int64_t matrix[2] = {c.s.m, c.s.k}, rows = c.s.m, cols = c.s.k;
    constexpr DLDevice kCpu{kDLCPU, 0};
    DLTensor a{content.data(), kCpu, 2, c.dtype, matrix, nullptr, 0}, ca{codes.data(), kCpu, 2, kI8, matrix, nullptr, 0};
    DLTensor sa{row_stats.data(), kCpu, 1, kF32, &rows, nullptr, 0}, marked{marks.data(), kCpu, 1, kU8, &cols, nullptr, 0};
    if (cquantize_int8_vectorwise(&a, c.threshold, &ca, &sa, &marked, nullptr) != BNB_OK) codes.clear();
    for (int64_t k = 0; k < c.s.k; ++k) {
      if (marks[size_t(k)]) columns.push_back(k);
    }
  }
};

// The whole layer in one call, or (parts) its second half with what the first one makes.
Call layer(const Layer &c, bool parts, Random &random) {
  const Shape s = c.s;
  const float threshold = c.threshold;
  Call call;
  std::vector<float> values;
  for (int64_t i = 0; i < s.m * s.k; ++i) values.push_back(random.normal() * (random.one_in(s.k) ? 20.0f : 1.0f));
  if (!values.empty() && random.one_in(3)) values[0] = std::numeric_limits<float>::infinity();
  const Bytes content = narrowed(c.dtype, values);
  const int A = add_matrix(call, "A", c.dtype, s.m, s.k, s.gap, content);
  const int CB = add_matrix(call, "CB", kI8, s.n, s.k, s.gap, random_bytes(s.n * s.k, random));
  std::vector<float> stats, bias_values;
  for (int64_t n = 0; n < s.n; ++n) stats.push_back(std::fabs(random.normal()));
  for (int64_t n = 0; n < s.n; ++n) bias_values.push_back(random.normal());
  const int SCB = call.input("SCB", kF32, {s.n}, bytes_of(stats));
  const int bias = call.input("bias", kF32, {s.n}, bytes_of(bias_values));
  const Out out(call, c.dtype, s, random);
  int CA = -1, SA = -1, list = -1;
  if (parts) {
    const Quantized half(c, content);
    CA = call.input("CA", kI8, {s.m, s.k}, half.codes);
    SA = call.input("SA", kF32, {s.m}, bytes_of(half.row_stats));
    list = call.input("outlier_cols", kI64, {int64_t(half.columns.size())}, bytes_of(half.columns));
  }
  call.invoke = [=, biased = c.bias](DLTensor *const *t) {
    Out::View view;
    out.look(t, &view);
    const DLTensor *bias_tensor = biased ? t[bias] : nullptr;
    if (!parts) return clinear_int8(t[A], t[CB], t[SCB], threshold, bias_tensor, &view.tensor, nullptr);
    return cgemm_int8_mixed(t[A], t[CA], t[CB], t[SA], t[SCB], t[list], bias_tensor, &view.tensor, nullptr);
  };
  return call;
}

void check_layer(Suite &suite, const std::string &name, const Layer &c) {
  suite.check_on_each(name, [&](const Target &target, Random &random) {
    Random same = random;
    const Call whole = layer(c, false, random), parts = layer(c, true, same);
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

std::string name_in(DLDataType dtype, const Shape &s) { return std::string(name_of(dtype)) + "/" + text_of(s); }

// Every edge of the kernels: lanes, vectors of 16 to 64 bytes, tiles, stretches of K, panels.
std::vector<Shape> shapes(bool quick) {
  std::vector<Shape> list;
  for (int64_t m : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 20, 31, 32, 33, 47, 49, 65}) list.push_back({m, 37, 320});
  for (int64_t n : {0, 1, 5, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100}) {
    for (int64_t m : {1, 6, 18}) list.push_back({m, n, 130});
  }
  for (int64_t k : {0, 1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257, 511, 513, 1023, 1024, 1025, 1100}) {
    for (int64_t m : {1, 3, 14, 35}) list.push_back({m, 21, k});
  }
  for (int64_t m : {1, 3, 14, 35}) {
    list.push_back({m, 40, 333, 7});
    list.push_back({m, 5, 37, 11});
    list.push_back({m, 40, 256, 0, Codes::kLowest});
    list.push_back({m, 40, 256, 0, Codes::kMixedSigns});
    list.push_back({m, 3, 2100, 0, Codes::kLargest});  // beyond 2^24, where fp32 ends
  }
  list.push_back({2, 1, 33800, 0, Codes::kLargest});  // the same for a 32nd of it
  if (quick) return list;
  for (int64_t m : {1, 5, 17}) list.push_back({m, 2, 131071, 0, Codes::kLowest});  // the largest sums that fit
  for (int64_t m : {4, 70, 260, 530}) list.push_back({m, 300, 1400, 1});
  for (int64_t m : {17, 70, 2100}) list.push_back({m, m < 100 ? 300 : 20, 1392, m < 100 ? 14 : 0});  // rows that begin at multiples of 16
  return list;
}

}  // namespace

CONFORMANCE(gemm_int8) {
  for (const Shape &s : shapes(suite.quick())) {
    suite.check("gemm_int8/sums/" + text_of(s), [&](Random &random) { return integers(s, random); });
  }
  Turns turns(suite.quick());
  for (int64_t m : {1, 2, 4, 7, 16, 19, 40, 72}) {
    for (const Shape &s : {Shape{m, 70, 208}, Shape{m, 33, 65, 3}, Shape{m, 5, 1}, Shape{m, 16, 0}}) {
      turns.each_dtype([&](DLDataType dtype) {
        suite.check("gemm_int8/scaled/" + name_in(dtype, s), [&](Random &random) { return scaled(s, dtype, nullptr, random); });
      });
      for (DLDataType bias : kFloats) {
        turns.each_dtype([&](DLDataType dtype) {
          suite.check("gemm_int8/scaled/" + name_in(dtype, s) + "/bias_" + name_of(bias),
                      [&](Random &random) { return scaled(s, dtype, &bias, random); });
        });
      }
    }
    for (int64_t outliers : {0, 1, 5, 40}) {
      for (const Shape &s : {Shape{m, 70, 208}, Shape{m, 33, 65, 3}, Shape{m, 3, 41}}) {
        turns.each_dtype([&](DLDataType dtype) {
          suite.check_on_each("gemm_int8/mixed/" + name_in(dtype, s) + "/outliers" + std::to_string(outliers),
                              [&](const Target &target, Random &random) {
                                return test_mixed(make_mixed(s, dtype, outliers, random), target);
                              });
        });
      }
    }
    for (float threshold : {0.0f, 6.0f, 1.0f}) {
      for (const Shape &s : {Shape{m, 70, 208}, Shape{m, 33, 65, 3}, Shape{m, 0, 7}, Shape{m, 9, 0}, Shape{0, 9, 8}}) {
        for (bool bias : {true, false}) {
          turns.each_dtype([&](DLDataType dtype) {
            const std::string name = "gemm_int8/linear/" + name_in(dtype, s) + "/threshold" + std::to_string(int(threshold));
            check_layer(suite, bias ? name : name + "/no_bias", {s, dtype, threshold, bias});
          });
        }
      }
    }
  }
  const Shape wide{2, 3, 8300};  // more columns than 256 words have bits
  check_layer(suite, "gemm_int8/linear/" + name_in(kF16, wide) + "/threshold1", {wide, kF16, 1.0f, true});
  for (int64_t m : {1, 16, 128, 512}) {
    const Shape s{m, 4096, 4096};
    suite.bench("gemm_int8/sums/" + text_of(s), double(s.n * s.k), [&](Random &random) { return integers(s, random); });
    const Layer c{s, kBF16, 6.0f, true};
    suite.bench("gemm_int8/linear/bf16/" + text_of(s), double(s.n * s.k), [&](Random &random) { return layer(c, false, random); });
  }
}
