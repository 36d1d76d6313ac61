// SPDX-License-Identifier: MIT
// Samples of products, optimizers and norms.
#include "draw.h"

namespace conformance {
namespace {

// A, B, absmax, bias, out, behind the tensors of a bnb_nested if there is one.
Draw gemm(Random &random, bool nested) {
  Draw draw(random, "cgemm_4bit", 10, 2);
  draw.kinds(BNB_FP4, BNB_NF4);
  draw.sample.uses.strided_rows = true;
  draw.sample.uses.exact = false;
  draw.sample.uses.free_sizes = true;  // without rows in B, A may have any number of columns
  const int64_t M = random.below(6), N = random.below(40),
                K = random.one_in(2) ? random.below(200) : 64 * random.below(4);
  const int64_t blocks = ceil_div(N * K, draw.blocksize);
  const DLDataType bias = draw.any_float();
  if (nested) draw.nested(blocks);
  draw.input("A", draw.dtype, {M, K}, draw.floats(draw.dtype, M * K));
  draw.input("B", kU8, {ceil_div(N * K, 2), 1}, random_bytes(ceil_div(N * K, 2), random));
  if (nested) {
    draw.input("absmax", kU8, {blocks}, random_bytes(blocks, random));
  } else {
    draw.input("absmax", kF32, {blocks}, draw.scale_bytes(blocks));
  }
  draw.input("bias", bias, {N}, draw.floats(bias, N));
  draw.output("out", draw.dtype, {M, N}, Nan::kAny);
  return draw;
}

// A, B, scale, bias, out.
Draw gemm_fp8(Random &random) {
  Draw draw(random, "cgemm_fp8", 10, 1);
  draw.kinds(BNB_FP8_E4M3FN, BNB_FP8_E5M2);
  draw.sample.uses.strided_rows = true;
  draw.sample.uses.exact = false;
  const int64_t M = random.below(6), N = random.below(40), K = random.one_in(2) ? random.below(200) : 64 * random.below(4);
  if (K > 0 && random.one_in(2)) draw.sample.scalars.blocksize = draw.blocksize = K;
  const int64_t blocks = ceil_div(N * K, draw.blocksize);
  const DLDataType bias = draw.any_float();
  draw.input("A", draw.dtype, {M, K}, draw.floats(draw.dtype, M * K));
  draw.input("B", kU8, {N, K}, random_bytes(N * K, random));
  draw.input("scale", kF32, {blocks}, draw.scale_bytes(blocks));
  draw.input("bias", bias, {N}, draw.floats(bias, N));
  draw.output("out", draw.dtype, {M, N}, Nan::kAny);
  return draw;
}

bnb_optimizer_config config_of(const Scalars &scalars, DLTensor *found_inf) {
  bnb_optimizer_config config{};
  config.optimizer = bnb_optimizer(scalars.kind);
  config.lr = double(scalars.threshold);
  config.beta1 = 0.9;
  config.beta2 = 0.999;
  config.beta3 = 0.9999;
  config.alpha = 5.0;
  config.eps = 1e-8;
  config.weight_decay = 0.01;
  config.gnorm_scale = 1.0;
  config.found_inf = found_inf;
  return config;
}

// Adam has two states, momentum one: these two have all shapes of arguments but AdEMAMix's.
bool has_second(const Scalars &scalars) { return scalars.kind == BNB_ADAM; }

void state(Draw &draw, const char *name, const char *absmax, const char *qmap, bool eight_bits, bool positive) {
  if (!eight_bits) {
    Bytes values = draw.floats(kF32, draw.n);
    for (size_t i = 3; positive && i < values.size(); i += 4) values[i] &= 0x7F;
    draw.updated(name, kF32, {draw.n}, values, Nan::kAny);
    return;
  }
  draw.updated(name, kU8, {draw.n}, random_bytes(draw.n, draw.random));
  draw.updated(absmax, kF32, {draw.blocks}, draw.scale_bytes(draw.blocks), Nan::kAny);
  const Code code = positive ? Code::kDynamicUnsigned : Code::kDynamicSigned;
  draw.input(qmap, kF32, {256}, bytes_of(values_of(code, draw.random)));
}

// g, p, found_inf, unorm_vec, then each state with its absmax and qmap.
Sample optimizer(Random &random, const char *function, int64_t limit, bool eight_bits) {
  Draw draw(random, function, limit, eight_bits ? 1 : 0);
  draw.kinds(BNB_ADAM, BNB_LAMB);
  draw.sample.scalars.kind = random.one_in(2) ? BNB_ADAM : BNB_MOMENTUM;
  draw.threshold();
  const DLDataType gradient = draw.any_float();
  draw.input("g", gradient, {draw.n}, draw.floats(gradient, draw.n));
  draw.updated("p", draw.dtype, {draw.n}, draw.floats(draw.dtype, draw.n), Nan::kAny);
  draw.updated("found_inf", kF32, {1}, bytes_of(std::vector<float>{0.0f}));
  draw.updated("unorm_vec", kF32, {1}, bytes_of(std::vector<float>{0.0f}), Nan::kAny);
  state(draw, "state1", "absmax1", "qmap1", eight_bits, false);
  if (has_second(draw.sample.scalars)) state(draw, "state2", "absmax2", "qmap2", eight_bits, true);
  return draw.sample;
}

bnb_optimizer_tensors tensors_of(DLTensor *const *t) {
  bnb_optimizer_tensors tensors{};
  tensors.g = t[0];
  tensors.p = t[1];
  tensors.unorm_vec = t[3];
  tensors.step = 3;
  return tensors;
}

template <bool kSecond>
bnb_status update_32bit(DLTensor *const *t, const Scalars &s) {
  const bnb_optimizer_config config = config_of(s, t[2]);
  bnb_optimizer_tensors tensors = tensors_of(t);
  tensors.state1 = t[4];
  if (kSecond) tensors.state2 = t[5];
  return coptimizer_update_32bit(&config, &tensors, 1, nullptr);
}

template <bool kSecond>
bnb_status update_8bit(DLTensor *const *t, const Scalars &s) {
  const bnb_optimizer_config config = config_of(s, t[2]);
  bnb_optimizer_tensors tensors = tensors_of(t);
  tensors.state1 = t[4];
  tensors.absmax1 = t[5];
  tensors.qmap1 = t[6];
  if (kSecond) {
    tensors.state2 = t[7];
    tensors.absmax2 = t[8];
    tensors.qmap2 = t[9];
  }
  return coptimizer_update_8bit(&config, &tensors, 1, s.blocksize, nullptr);
}

}  // namespace

Sample sample_gemm_4bit(Random &random, int64_t) {
  Draw draw = gemm(random, false);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cgemm_4bit(t[0], t[1], t[2], nullptr, bnb_quant_type(s.kind), s.blocksize, t[3], t[4], nullptr);
  };
  return draw.sample;
}

Sample sample_gemm_4bit_nested(Random &random, int64_t) {
  Draw draw = gemm(random, true);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    const bnb_nested nested = nested_of(t, s);
    return cgemm_4bit(t[3], t[4], t[5], s.nested ? &nested : nullptr, bnb_quant_type(s.kind), s.blocksize, t[6], t[7],
                      nullptr);
  };
  return draw.sample;
}

Sample sample_gemm_fp8(Random &random, int64_t) {
  Draw draw = gemm_fp8(random);
  draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
    return cgemm_fp8(t[0], t[1], t[2], bnb_quant_type(s.kind), s.blocksize, t[3], t[4], nullptr);
  };
  return draw.sample;
}

Sample sample_optimizer_32bit(Random &random, int64_t limit) {
  Sample sample = optimizer(random, "coptimizer_update_32bit", limit, false);
  sample.call = has_second(sample.scalars) ? update_32bit<true> : update_32bit<false>;
  return sample;
}

Sample sample_optimizer_8bit(Random &random, int64_t limit) {
  Sample sample = optimizer(random, "coptimizer_update_8bit", limit, true);
  sample.call = has_second(sample.scalars) ? update_8bit<true> : update_8bit<false>;
  return sample;
}

Sample sample_norms(Random &random, int64_t limit) {
  Draw draw(random, "cmeasure_norms", limit, 0);
  draw.sample.uses.free_sizes = true;
  for (int i = 0; i < 3; ++i) {
    const DLDataType dtype = draw.any_float();
    const int64_t n = random.below(limit + 1);
    draw.input("tensors[i]", dtype, {n}, draw.floats(dtype, n));
  }
  draw.output("norms", random.one_in(2) ? kF32 : kF64, {3}, Nan::kAny);
  draw.output("total", random.one_in(2) ? kF32 : kF64, {}, Nan::kAny);
  draw.updated("found_inf", kF32, {1}, bytes_of(std::vector<float>{0.0f}));
  draw.sample.call = [](DLTensor *const *t, const Scalars &) {
    return cmeasure_norms(t, 3, t[3], t[4], t[5], nullptr);
  };
  return draw.sample;
}

}  // namespace conformance
