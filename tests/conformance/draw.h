// SPDX-License-Identifier: MIT
// Random choices for samples.
#ifndef TESTS_CONFORMANCE_DRAW_H_
#define TESTS_CONFORMANCE_DRAW_H_

#include "samples.h"
#include "values.h"

namespace conformance {

using SampleMaker = Sample (*)(Random &random, int64_t limit);

// The samples that are not in samples.cc.
Sample sample_gemm_4bit(Random &random, int64_t limit);
Sample sample_gemm_4bit_nested(Random &random, int64_t limit);
Sample sample_gemm_fp8(Random &random, int64_t limit);
Sample sample_gemm_int8(Random &random, int64_t limit);
Sample sample_gemm_int8_scaled(Random &random, int64_t limit);
Sample sample_gemm_int8_mixed(Random &random, int64_t limit);
Sample sample_linear_int8(Random &random, int64_t limit);
Sample sample_gemm_coo(Random &random, int64_t limit);
Sample sample_quantize_mx(Random &random, int64_t limit);
Sample sample_dequantize_mx(Random &random, int64_t limit);
Sample sample_gemm_mx(Random &random, int64_t limit);
Sample sample_optimizer_32bit(Random &random, int64_t limit);
Sample sample_optimizer_8bit(Random &random, int64_t limit);
Sample sample_gemm_ternary(Random &random, int64_t limit);
Sample sample_linear_ternary(Random &random, int64_t limit);
Sample sample_quantize_ternary(Random &random, int64_t limit);
Sample sample_dequantize_ternary(Random &random, int64_t limit);
Sample sample_norms(Random &random, int64_t limit);

struct Draw {
  Random &random;
  int64_t n, blocksize, blocks, rows, cols;
  DLDataType dtype;
  Code code;
  Sample sample;

  // step: what block sizes have to be a multiple of; 0 if there are none.
  Draw(Random &r, const char *function, int64_t limit, int64_t step) : random(r) {
    n = random.below(limit + 1);
    blocksize = (step ? step : 1) * random.between(1, random.one_in(2) ? 8 : 300);
    blocks = ceil_div(n, blocksize);
    cols = random.between(0, 60);
    rows = cols ? n / cols : 3;
    dtype = any_float();
    code = kAllCodes[random.below(int64_t(std::size(kAllCodes)))];
    sample.function = function;
    sample.scalars.blocksize = blocksize;
    sample.scalars.nested_blocksize = random.between(1, 70);
    sample.uses.blocksize = step;
  }

  DLDataType any_float() { return kFloats[random.below(3)]; }

  void kinds(int32_t first, int32_t last) {
    sample.uses.first = first;
    sample.uses.last = last;
    sample.scalars.kind = int32_t(random.between(first, last));
  }
  void threshold() {
    sample.uses.threshold = true;
    sample.scalars.threshold = random.one_in(2) ? 0.0f : 2.5f;
  }

  Bytes floats(DLDataType type, int64_t count) { return filled(Fill::kMixed, type, count, 16, {}, random); }
  Bytes scale_bytes(int64_t count) { return bytes_of(scales(count, random)); }
  void input(const char *name, DLDataType type, std::vector<int64_t> shape, Bytes content) {
    sample.tensors.push_back({name, type, std::move(shape), false, std::move(content)});
  }
  void output(const char *name, DLDataType type, std::vector<int64_t> shape, Nan nan = Nan::kSameBits) {
    sample.tensors.push_back({name, type, std::move(shape), true, {}, 0, nan});
  }
  void updated(const char *name, DLDataType type, std::vector<int64_t> shape, Bytes content, Nan nan = Nan::kSameBits) {
    sample.tensors.push_back({name, type, std::move(shape), true, std::move(content), 0, nan});
  }
  void code_input(const char *name) { input(name, kF32, {256}, bytes_of(values_of(code, random))); }

  // code, absmax and offset of a bnb_nested for that many scales: the first three tensors.
  void nested(int64_t count) {
    const int64_t nested_blocks = ceil_div(count, sample.scalars.nested_blocksize);
    sample.scalars.nested = true;
    code_input("nested.code");
    input("nested.absmax", kF32, {nested_blocks}, scale_bytes(nested_blocks));
    input("nested.offset", kF32, {1}, scale_bytes(1));
  }
};

inline bnb_nested nested_of(DLTensor *const *t, const Scalars &s) { return {t[0], t[1], t[2], s.nested_blocksize}; }

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_DRAW_H_
