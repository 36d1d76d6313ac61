// SPDX-License-Identifier: MIT
// Samples of int8 products and of the sparse one.
#include "draw.h"

namespace conformance {
namespace {

constexpr DLDataType kI64{kDLInt, 64, 1};

struct Sizes {
  int64_t m, n, k;
};

Draw product(Random &random, const char *function, Sizes *sizes) {
  Draw draw(random, function, 10, 0);
  draw.sample.uses.strided_rows = draw.sample.uses.strided_weights = true;
  *sizes = {random.below(20), random.below(40), random.below(200)};
  return draw;
}

void codes(Draw &draw, const char *name, int64_t rows, int64_t cols) {
  draw.input(name, kI8, {rows, cols}, random_bytes(rows * cols, draw.random));
}

void bias(Draw &draw, int64_t n) {
  const DLDataType dtype = draw.any_float();
  draw.input("bias", dtype, {n}, draw.floats(dtype, n));
}

}  // namespace

Sample sample_gemm_int8(Random &random, int64_t) {
  Sizes s;
  Draw draw = product(random, "cgemm_int8", &s);
  codes(draw, "A", s.m, s.k);
  codes(draw, "B", s.n, s.k);
  draw.output("out", kI32, {s.m, s.n});
  draw.sample.call = [](DLTensor *const *t, const Scalars &) { return cgemm_int8(t[0], t[1], t[2], nullptr); };
  return draw.sample;
}

Sample sample_gemm_int8_scaled(Random &random, int64_t) {
  Sizes s;
  Draw draw = product(random, "cgemm_int8_scaled", &s);
  codes(draw, "A", s.m, s.k);
  codes(draw, "B", s.n, s.k);
  draw.input("row_stats", kF32, {s.m}, draw.scale_bytes(s.m));
  draw.input("col_stats", kF32, {s.n}, draw.scale_bytes(s.n));
  bias(draw, s.n);
  draw.output("out", draw.dtype, {s.m, s.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &) {
    return cgemm_int8_scaled(t[0], t[1], t[2], t[3], t[4], t[5], nullptr);
  };
  return draw.sample;
}

Sample sample_gemm_int8_mixed(Random &random, int64_t) {
  Sizes s;
  Draw draw = product(random, "cgemm_int8_mixed", &s);
  draw.sample.uses.exact = false;
  std::vector<int64_t> columns;
  for (int64_t k = 0; k < s.k; ++k) {
    if (random.one_in(20)) columns.push_back(k);
  }
  draw.input("A", draw.dtype, {s.m, s.k}, draw.floats(draw.dtype, s.m * s.k));
  codes(draw, "CA", s.m, s.k);
  codes(draw, "CB", s.n, s.k);
  draw.input("row_stats", kF32, {s.m}, draw.scale_bytes(s.m));
  draw.input("col_stats", kF32, {s.n}, draw.scale_bytes(s.n));
  draw.input("outlier_cols", kI64, {int64_t(columns.size())}, bytes_of(columns));
  bias(draw, s.n);
  draw.output("out", draw.any_float(), {s.m, s.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &) {
    return cgemm_int8_mixed(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], nullptr);
  };
  return draw.sample;
}

Sample sample_linear_int8(Random &random, int64_t) {
  Sizes s;
  Draw draw = product(random, "clinear_int8", &s);
  draw.sample.uses.exact = false;
  draw.threshold();
  draw.input("A", draw.dtype, {s.m, s.k}, draw.floats(draw.dtype, s.m * s.k));
  codes(draw, "CB", s.n, s.k);
  draw.input("SCB", kF32, {s.n}, draw.scale_bytes(s.n));
  bias(draw, s.n);
  draw.output("out", draw.dtype, {s.m, s.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &scalars) {
    return clinear_int8(t[0], t[1], t[2], scalars.threshold, t[3], t[4], nullptr);
  };
  return draw.sample;
}

Sample sample_gemm_coo(Random &random, int64_t) {
  Sizes s;
  Draw draw = product(random, "cgemm_coo", &s);
  draw.sample.uses.exact = false;
  draw.sample.uses.free_sizes = true;
  draw.kinds(0, 1);  // transposed_B
  const bool transposed = draw.sample.scalars.kind == 1;
  const int64_t nnz = s.m * s.k > 0 ? random.below(60) : 0;
  std::vector<int32_t> rows, cols;
  for (int64_t i = 0; i < nnz; ++i) {
    rows.push_back(int32_t(random.below(s.m)));
    cols.push_back(int32_t(random.below(s.k)));
  }
  draw.input("rowidx", kI32, {nnz}, bytes_of(rows));
  draw.input("colidx", kI32, {nnz}, bytes_of(cols));
  draw.input("values", draw.dtype, {nnz}, draw.floats(draw.dtype, nnz));
  draw.input("values_scale", kF32, {1}, draw.scale_bytes(1));
  codes(draw, "B", transposed ? s.n : s.k, transposed ? s.k : s.n);
  draw.input("stats of B", kF32, {s.n}, draw.scale_bytes(s.n));
  draw.output("out", draw.any_float(), {s.m, s.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &scalars) {
    return cgemm_coo(t[0], t[1], t[2], t[3], t[4], t[5], scalars.kind, t[6], nullptr);
  };
  return draw.sample;
}

}  // namespace conformance
