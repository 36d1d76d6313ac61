// SPDX-License-Identifier: MIT
// cgemm_coo: within the bound of bnb.h of the product in float64, the same bits for every placement and number of threads.
#include <cmath>
#include <cstdio>

#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Case {
  int64_t m, n, k, nnz;
  DLDataType values = kF32, b = kF32, out = kF32;
  bool transposed = false, scaled = false, stats = false, strided = false;
};

std::string name_of_numbers(DLDataType dtype) { return is(dtype, kI8) ? "int8" : name_of(dtype); }

std::string describe(const Case &c) {
  std::string text = "gemm_coo/" + name_of_numbers(c.values) + "_" + name_of_numbers(c.b) + "_" + name_of(c.out) + "/m" +
                     std::to_string(c.m) + "_n" + std::to_string(c.n) + "_k" + std::to_string(c.k) + "_nnz" + std::to_string(c.nnz);
  if (c.transposed) text += "/transposed";
  if (c.scaled) text += "/scaled";
  if (c.stats) text += "/stats";
  if (c.strided) text += "/strided";
  return text;
}

struct Product {
  Case c;
  std::vector<int32_t> rows, cols;
  std::vector<float> values, dense, stats;  // dense: [k, n], as it counts
  float scale = 1.0f;
  Call call;
  int out = 0;
};

// n numbers of a dtype: their bytes, and what they mean.
Bytes numbers(DLDataType dtype, int64_t n, Random &random, std::vector<float> *meaning) {
  Bytes bytes;
  if (is(dtype, kI8)) {
    bytes = random_bytes(n, random);
    for (uint8_t byte : bytes) meaning->push_back(float(int8_t(byte)));
    return bytes;
  }
  std::vector<float> drawn;
  for (int64_t i = 0; i < n; ++i) drawn.push_back(random.normal());
  bytes = narrowed(dtype, drawn);
  for (int64_t i = 0; i < n; ++i) meaning->push_back(value_of(dtype, bytes.data() + i * size_of(dtype)));
  return bytes;
}

void add_dense(Product &p, int *b, int *stats, Random &random) {
  const Case &c = p.c;
  std::vector<float> stored;
  const int64_t rows = c.transposed ? c.n : c.k, cols = c.transposed ? c.k : c.n;
  const Bytes bytes = numbers(c.b, rows * cols, random, &stored);
  *b = p.call.input("B", c.b, {rows, cols}, bytes, c.strided ? cols + 3 : 0);
  for (int64_t n = 0; n < c.n; ++n) p.stats.push_back(std::fabs(random.normal()));
  *stats = p.call.input("col_stats", kF32, {c.n}, bytes_of(p.stats));
  for (int64_t k = 0; k < c.k; ++k) {
    for (int64_t n = 0; n < c.n; ++n) {
      const float value = stored[size_t(c.transposed ? n * c.k + k : k * c.n + n)];
      p.dense.push_back(c.stats ? value * p.stats[size_t(n)] * (1.0f / 127.0f) : value);
    }
  }
}

Product make(const Case &c, Random &random) {
  Product p;
  p.c = c;
  for (int64_t i = 0; i < c.nnz; ++i) {  // in any order, some places twice
    p.rows.push_back(int32_t(random.one_in(3) ? 0 : random.below(c.m)));
    p.cols.push_back(int32_t(random.below(c.k)));
  }
  const int rowidx = p.call.input("rowidx", kI32, {c.nnz}, bytes_of(p.rows));
  const int colidx = p.call.input("colidx", kI32, {c.nnz}, bytes_of(p.cols));
  const int values = p.call.input("values", c.values, {c.nnz}, numbers(c.values, c.nnz, random, &p.values));
  if (c.scaled) p.scale = 0.0123f;
  for (float &value : p.values) value *= p.scale;
  const int scale = p.call.input("values_scale", kF32, {1}, bytes_of(std::vector<float>{p.scale}));
  int b = 0, stats = 0;
  add_dense(p, &b, &stats, random);
  const int64_t wide = c.n + (c.strided ? 5 : 0);
  p.out = p.call.updated("out", c.out, {c.m, wide}, random_bytes(c.m * wide * size_of(c.out), random), Nan::kAny);
  p.call.invoke = [=, out = p.out](DLTensor *const *t) {
    int64_t shape[2] = {c.m, c.n}, strides[2] = {wide, 1};
    DLTensor view = *t[out];
    view.shape = shape;
    view.strides = strides;
    return cgemm_coo(t[rowidx], t[colidx], t[values], c.scaled ? t[scale] : nullptr, t[b], c.stats ? t[stats] : nullptr,
                     c.transposed, &view, nullptr);
  };
  return p;
}

std::string beyond_bound(const Product &p, const Bytes &out) {
  const Case &c = p.c;
  const double u = is(c.out, kF32) ? 0x1p-24 : is(c.out, kF16) ? 0x1p-11 : 0x1p-8;
  const int64_t row_items = c.n + (c.strided ? 5 : 0);
  std::vector<double> want(size_t(c.m * c.n)), sums(want.size()), counts(static_cast<size_t>(c.m));
  for (int64_t i = 0; i < c.nnz; ++i) {
    const int64_t row = p.rows[size_t(i)];
    counts[size_t(row)] += 1.0;
    for (int64_t n = 0; n < c.n; ++n) {
      const double product = double(p.values[size_t(i)]) * double(p.dense[size_t(p.cols[size_t(i)] * c.n + n)]);
      want[size_t(row * c.n + n)] += product;
      sums[size_t(row * c.n + n)] += std::fabs(product);
    }
  }
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t n = 0; n < c.n; ++n) {
      const double got = double(value_of(c.out, out.data() + (m * row_items + n) * size_of(c.out)));
      const double wanted = want[size_t(m * c.n + n)];
      const double bound = u * std::fabs(got) + (counts[size_t(m)] + 8.0) * 0x1p-24 * sums[size_t(m * c.n + n)] +
                           0x1p-125 * (counts[size_t(m)] + 1.0) + (is(c.out, kF16) ? 0x1p-25 : 0.0);
      const bool overflow = std::isinf(got) && std::fabs(wanted) + bound >= double(corners_of(c.out).largest);
      if (overflow || std::fabs(got - wanted) <= bound) continue;
      char text[160];
      std::snprintf(text, sizeof text, "out[%lld, %lld] is %.9g, must be %.9g within %.3g", (long long)m, (long long)n, got, wanted,
                    bound);
      return text;
    }
  }
  return "";
}

// What lies between the rows of out is what was there before.
std::string gaps_changed(const Product &p, const Bytes &out) {
  const Case &c = p.c;
  const int64_t wide = c.n + (c.strided ? 5 : 0), size = size_of(c.out);
  const Bytes &before = p.call.tensors[size_t(p.out)].content;
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t i = (m * wide + c.n) * size; i < (m + 1) * wide * size; ++i) {
      if (out[size_t(i)] != before[size_t(i)]) return "bytes between the rows of out were written";
    }
  }
  return "";
}

std::string test(const Product &p, const Target &target) {
  constexpr Placement kPlacements[] = {{"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
                                       {"at the end of a page, 2 threads", true, 0, false, true, 2, 0x5A},
                                       {"1 byte off, 5 threads", false, 1, true, false, 5, 0xFF}};
  std::vector<Bytes> first, again;
  for (const Placement &placement : kPlacements) {
    std::vector<Bytes> &results = first.empty() ? first : again;
    std::string problem = run(p.call, target, placement, &results);
    if (problem.empty()) problem = beyond_bound(p, results[size_t(p.out)]);
    if (problem.empty()) problem = gaps_changed(p, results[size_t(p.out)]);
    if (problem.empty() && &results == &again) problem = compare(p.call, again, first);
    if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
    if (!problem.empty()) return problem + "\n     buffers " + placement.name;
  }
  return "";
}

// Values outside of the matrix: the CPU says so, a device leaves them out.
std::string outside(const Target &target, Random &random) {
  Product p = make({5, 40, 12, 60}, random);
  const int32_t wrong[] = {-1, INT32_MIN, INT32_MAX, 5, 12};
  for (size_t i = 0; i < std::size(wrong); ++i) {
    p.values[7 * i] = 0.0f;
    int32_t *indices = reinterpret_cast<int32_t *>(p.call.tensors[wrong[i] == 12 || i == 0 ? 1 : 0].content.data());
    indices[7 * i] = wrong[i];
  }
  if (!target.isa) return test(p, target);
  std::vector<Bytes> results;
  const std::string problem = run(p.call, target, kPlain, &results);
  return problem.find("INVALID_ARGUMENT") != std::string::npos ? "" : "must be an error, but is: " + problem;
}

}  // namespace

CONFORMANCE(gemm_coo) {
  suite.check_on_each("gemm_coo/outside", outside);
  const auto check = [&](const Case &c) {
    suite.check_on_each(describe(c), [&](const Target &target, Random &random) { return test(make(c, random), target); });
  };
  const DLDataType numbers[] = {kF32, kF16, kBF16, kI8};
  for (bool transposed : {false, true}) {
    for (int64_t n : {0, 1, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 130, 200}) check({9, n, 20, 50, kF32, kF32, kF32, transposed});
    for (int64_t nnz : {0, 1, 2, 300}) {
      for (int64_t m : {1, 3, 40}) check({m, 33, 7, nnz, kF32, kF16, kBF16, transposed});
    }
    for (DLDataType values : numbers) {
      for (DLDataType b : numbers) {
        for (DLDataType out : kFloats) {
          for (bool strided : {false, true}) {
            const bool scaled = is(values, kI8);
            check({5, 77, 12, 40, values, b, out, transposed, scaled, false, strided});
            if (is(b, kI8)) check({5, 77, 12, 40, values, b, out, transposed, false, true, strided});
          }
        }
      }
    }
    check({0, 8, 4, 0, kF32, kF32, kF32, transposed});
    check({3, 8, 0, 0, kF32, kF32, kF32, transposed});
    if (suite.quick()) continue;
    check({300, 700, 500, 20000, kF16, kF16, kF16, transposed});
    check({70001, 3, 400, 3000, kF32, kF32, kF32, transposed});
  }
  const Case c{4096, 4096, 4096, 4096 * 8, kF16, kF16, kF16};
  suite.bench(describe(c), double(c.k * c.n) * 2, [&](Random &random) { return make(c, random).call; });
}
