// SPDX-License-Identifier: MIT
// Samples of MX and NVFP4.
#include "draw.h"
#include "mx.h"

namespace conformance {
namespace {

const MxFormat &format_of(int32_t kind) {
  for (const MxFormat &format : kMxFormats) {
    if (format.quant_type == kind) return format;
  }
  return kMxFormats[0];
}

// Scales of `blocks` blocks, and for NVFP4 the one of the tensor.
void scale_inputs(Draw &draw, const MxFormat &format, int64_t blocks) {
  draw.input("scale", kU8, {blocks}, random_bytes(blocks, draw.random));
  if (format.quant_type == BNB_NVFP4) draw.input("tensor_scale", kF32, {1}, draw.scale_bytes(1));
}

bnb_mx_scale rule(const Scalars &s) {
  return bnb_mx_scale(s.nested_blocksize & 3);
}  // of a number that nothing else uses

}  // namespace

Sample sample_quantize_mx(Random &random, int64_t limit) {
  Draw draw(random, "cquantize_mx", limit, 0);
  draw.kinds(BNB_MXFP4, BNB_NVFP4);
  const MxFormat &format = format_of(draw.sample.scalars.kind);
  const int64_t cols = format.blocksize * random.between(0, 3), rows = cols ? draw.n / cols : 3, n = rows * cols;
  draw.input("A", draw.dtype, {rows, cols}, draw.floats(draw.dtype, n));
  draw.output("out", kU8, {rows, cols / format.codes_a_byte});
  draw.output("scale", kU8, {rows, cols / format.blocksize});
  const bool two_level = format.quant_type == BNB_NVFP4;
  if (two_level) draw.output("tensor_scale", kF32, {1});
  if (two_level) {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cquantize_mx(t[0], bnb_quant_type(s.kind), rule(s), t[1], t[2], t[3], nullptr);
    };
  } else {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cquantize_mx(t[0], bnb_quant_type(s.kind), rule(s), t[1], t[2], nullptr, nullptr);
    };
  }
  return draw.sample;
}

Sample sample_dequantize_mx(Random &random, int64_t limit) {
  Draw draw(random, "cdequantize_mx", limit, 0);
  draw.kinds(BNB_MXFP4, BNB_NVFP4);
  const MxFormat &format = format_of(draw.sample.scalars.kind);
  const int64_t blocks = draw.n / format.blocksize, n = blocks * format.blocksize;
  draw.input("A", kU8, {n / format.codes_a_byte}, random_bytes(n / format.codes_a_byte, random));
  scale_inputs(draw, format, blocks);
  draw.output("out", draw.dtype, {n}, Nan::kAny);
  if (format.quant_type == BNB_NVFP4) {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cdequantize_mx(t[0], t[1], t[2], bnb_quant_type(s.kind), t[3], nullptr);
    };
  } else {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cdequantize_mx(t[0], t[1], nullptr, bnb_quant_type(s.kind), t[2], nullptr);
    };
  }
  return draw.sample;
}

Sample sample_gemm_mx(Random &random, int64_t) {
  Draw draw(random, "cgemm_mx", 10, 0);
  draw.kinds(BNB_MXFP4, BNB_NVFP4);
  draw.sample.uses.strided_rows = true;
  draw.sample.uses.exact = false;
  const MxFormat &format = format_of(draw.sample.scalars.kind);
  const int64_t M = random.below(6), N = random.below(40), K = format.blocksize * random.below(7);
  const DLDataType bias = draw.any_float();
  draw.input("A", draw.dtype, {M, K}, draw.floats(draw.dtype, M * K));
  draw.input("B", kU8, {N, K / format.codes_a_byte}, random_bytes(N * K / format.codes_a_byte, random));
  scale_inputs(draw, format, N * K / format.blocksize);
  draw.input("bias", bias, {N}, draw.floats(bias, N));
  draw.output("out", draw.dtype, {M, N}, Nan::kAny);
  if (format.quant_type == BNB_NVFP4) {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cgemm_mx(t[0], t[1], t[2], t[3], bnb_quant_type(s.kind), t[4], t[5], nullptr);
    };
  } else {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cgemm_mx(t[0], t[1], t[2], nullptr, bnb_quant_type(s.kind), t[3], t[4], nullptr);
    };
  }
  return draw.sample;
}

}  // namespace conformance
