// SPDX-License-Identifier: MIT
// The calls of samples.h.
#include "samples.h"

#include "draw.h"

namespace conformance {
namespace {

Sample quantize_blockwise(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_blockwise", limit, 1);
  draw.input("A", draw.dtype, {draw.n}, draw.floats(draw.dtype, draw.n));
  draw.code_input("code");
  draw.output("out", kU8, {draw.n});
  draw.output("absmax", kF32, {draw.blocks});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_blockwise(t[0], t[1], s.blocksize, t[2], t[3], nullptr);
  };
  return draw.sample;
}

Sample dequantize_blockwise(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_blockwise", limit, 1);
  draw.input("A", kU8, {draw.n}, random_bytes(draw.n, random));
  draw.input("absmax", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
  draw.code_input("code");
  draw.output("out", draw.dtype, {draw.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cdequantize_blockwise(t[0], t[1], t[2], s.blocksize, t[3], nullptr);
  };
  return draw.sample;
}

Sample quantize_nested(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_nested", limit, 1);
  draw.input("absmax", kF32, {draw.n}, draw.floats(kF32, draw.n));
  draw.code_input("code");
  draw.output("out", kU8, {draw.n});
  draw.output("nested_absmax", kF32, {draw.blocks});
  draw.output("offset", kF32, {});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_nested(t[0], t[1], s.blocksize, t[2], t[3], t[4], nullptr);
  };
  return draw.sample;
}

Sample dequantize_nested(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_nested", limit, 0);
  draw.nested(draw.n);
  draw.input("A", kU8, {draw.n}, random_bytes(draw.n, random));
  draw.output("out", kF32, {draw.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    const bnb_nested nested = nested_of(t, s);
    return cdequantize_nested(t[3], s.nested ? &nested : nullptr, t[4], nullptr);
  };
  return draw.sample;
}

Sample quantize_4bit(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_4bit", limit, 2);
  draw.kinds(BNB_FP4, BNB_NF4);
  draw.input("A", draw.dtype, {draw.n}, draw.floats(draw.dtype, draw.n));
  draw.output("out", kU8, {ceil_div(draw.n, 2), 1});
  draw.output("absmax", kF32, {draw.blocks});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_4bit(t[0], bnb_quant_type(s.kind), s.blocksize, t[1], t[2], nullptr);
  };
  return draw.sample;
}

Sample dequantize_4bit(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_4bit", limit, 2);
  draw.kinds(BNB_FP4, BNB_NF4);
  draw.input("A", kU8, {ceil_div(draw.n, 2), 1}, random_bytes(ceil_div(draw.n, 2), random));
  draw.input("absmax", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
  draw.output("out", draw.dtype, {draw.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cdequantize_4bit(t[0], t[1], nullptr, bnb_quant_type(s.kind), s.blocksize, t[2], nullptr);
  };
  return draw.sample;
}

Sample dequantize_4bit_nested(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_4bit", limit, 2);
  draw.kinds(BNB_FP4, BNB_NF4);
  draw.nested(draw.blocks);
  draw.input("A", kU8, {ceil_div(draw.n, 2), 1}, random_bytes(ceil_div(draw.n, 2), random));
  draw.input("absmax", kU8, {draw.blocks}, random_bytes(draw.blocks, random));
  draw.output("out", draw.dtype, {draw.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    const bnb_nested nested = nested_of(t, s);
    return cdequantize_4bit(t[3], t[4], s.nested ? &nested : nullptr, bnb_quant_type(s.kind), s.blocksize, t[5],
                            nullptr);
  };
  return draw.sample;
}

Sample quantize_fp8(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_fp8", limit, 1);
  draw.kinds(BNB_FP8_E4M3FN, BNB_FP8_E5M2);
  draw.input("A", draw.dtype, {draw.n}, draw.floats(draw.dtype, draw.n));
  draw.output("out", kU8, {draw.n});
  draw.output("scale", kF32, {draw.blocks});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_fp8(t[0], bnb_quant_type(s.kind), s.blocksize, t[1], t[2], nullptr);
  };
  return draw.sample;
}

Sample dequantize_fp8(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_fp8", limit, 1);
  draw.kinds(BNB_FP8_E4M3FN, BNB_FP8_E5M2);
  draw.input("A", kU8, {draw.n}, random_bytes(draw.n, random));
  draw.input("scale", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
  draw.output("out", draw.dtype, {draw.n}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cdequantize_fp8(t[0], t[1], bnb_quant_type(s.kind), s.blocksize, t[2], nullptr);
  };
  return draw.sample;
}

Sample quantize_int8_vectorwise(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_int8_vectorwise", limit, 0);
  draw.sample.uses.strided_rows = true;
  draw.threshold();
  draw.input("A", draw.dtype, {draw.rows, draw.cols}, draw.floats(draw.dtype, draw.rows * draw.cols));
  draw.output("out", kI8, {draw.rows, draw.cols});
  draw.output("row_stats", kF32, {draw.rows});
  draw.output("outlier_cols", kU8, {draw.cols});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_int8_vectorwise(t[0], s.threshold, t[1], t[2], t[3], nullptr);
  };
  return draw.sample;
}

Sample quantize_int8_double(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_int8_double", limit, 0);
  draw.sample.uses.strided_rows = true;
  draw.threshold();
  draw.input("A", draw.dtype, {draw.rows, draw.cols}, draw.floats(draw.dtype, draw.rows * draw.cols));
  draw.output("out_row", kI8, {draw.rows, draw.cols});
  draw.output("out_col", kI8, {draw.rows, draw.cols});
  draw.output("row_stats", kF32, {draw.rows});
  draw.output("col_stats", kF32, {draw.cols});
  draw.output("outlier_cols", kU8, {draw.cols});
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cquantize_int8_double(t[0], s.threshold, t[1], t[2], t[3], t[4], t[5], nullptr);
  };
  return draw.sample;
}

Sample dequantize_int8_vectorwise(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_int8_vectorwise", limit, 0);
  draw.sample.uses.strided_rows = true;
  draw.input("A", kI8, {draw.rows, draw.cols}, random_bytes(draw.rows * draw.cols, random));
  draw.input("row_stats", kF32, {draw.rows}, draw.scale_bytes(draw.rows));
  draw.output("out", draw.dtype, {draw.rows, draw.cols}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &) {
    return cdequantize_int8_vectorwise(t[0], t[1], t[2], nullptr);
  };
  return draw.sample;
}

Sample dequantize_int8_mm(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_int8_mm", limit, 0);
  const DLDataType bias = kFloats[random.below(3)];
  draw.input("A", kI32, {draw.rows, draw.cols}, random_bytes(4 * draw.rows * draw.cols, random));
  draw.input("row_stats", kF32, {draw.rows}, draw.scale_bytes(draw.rows));
  draw.input("col_stats", kF32, {draw.cols}, draw.scale_bytes(draw.cols));
  draw.input("bias", bias, {draw.cols}, draw.floats(bias, draw.cols));
  draw.output("out", draw.dtype, {draw.rows, draw.cols}, Nan::kAny);
  draw.sample.call = [](DLTensor *const *t, const Scalars &) {
    return cdequantize_int8_mm(t[0], t[1], t[2], t[3], t[4], nullptr);
  };
  return draw.sample;
}

constexpr SampleMaker kMakers[] = {
    quantize_blockwise,     dequantize_blockwise,       quantize_nested,    dequantize_nested, quantize_4bit,
    dequantize_4bit,        dequantize_4bit_nested,     quantize_fp8,       dequantize_fp8,    quantize_int8_vectorwise,
    quantize_int8_double,   dequantize_int8_vectorwise, dequantize_int8_mm, sample_gemm_4bit,  sample_gemm_4bit_nested,
    sample_gemm_fp8,        sample_gemm_int8,           sample_gemm_int8_scaled, sample_gemm_int8_mixed, sample_linear_int8,
    sample_gemm_coo,
    sample_optimizer_32bit, sample_optimizer_8bit,      sample_norms,
    sample_quantize_ternary, sample_dequantize_ternary, sample_gemm_ternary, sample_linear_ternary,
    sample_quantize_mx, sample_dequantize_mx, sample_gemm_mx};

}  // namespace

bool is_optional(const Tensor &tensor) {
  for (const char *name : {"outlier_cols", "bias", "values_scale", "stats of B", "unorm_vec", "found_inf", "norms", "total", "tensor_scale",
                           "scale of ternary" /* in the blocks of some formats */}) {
    if (std::strcmp(tensor.name, name) == 0) return true;
  }
  return false;
}

int sample_count() { return int(std::size(kMakers)); }

Sample sample(int index, int64_t n, Random &random) { return kMakers[index](random, n); }

std::vector<Sample> samples(int64_t n, Random &random) {
  std::vector<Sample> list;
  for (int i = 0; i < sample_count(); ++i) list.push_back(sample(i, n, random));
  return list;
}

}  // namespace conformance
