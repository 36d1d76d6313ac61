// SPDX-License-Identifier: MIT
// bitsandbytes' names for optimizer steps.
#include "api/absmax.h"
#include "api/bitsandbytes_call.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// The optimizer behind a family name of bitsandbytes.h.
namespace families {
constexpr bnb_optimizer adam = BNB_ADAM, momentum = BNB_MOMENTUM, rmsprop = BNB_RMSPROP, adagrad = BNB_ADAGRAD,
                        lion = BNB_LION, ademamix = BNB_ADEMAMIX;
}

constexpr int64_t kBlocksize = 256;  // of all 8-bit states of bitsandbytes since 0.44

constexpr bool has_second_state(bnb_optimizer optimizer) { return optimizer == BNB_ADAM || optimizer == BNB_ADEMAMIX; }
constexpr int64_t averages(bnb_optimizer optimizer) { return optimizer == BNB_ADEMAMIX ? 2 : 1; }

// What the lists of both families have in common.
struct Numbers {
  float beta1, beta2, beta3, alpha, eps, weight_decay, lr, gnorm_scale;
  bool skip_zeros;
};

bnb_optimizer_config config_of(bnb_optimizer optimizer, const Numbers &numbers) {
  bnb_optimizer_config config{};
  config.optimizer = optimizer;
  config.skip_zeros = numbers.skip_zeros;
  config.lr = double(numbers.lr);
  config.beta1 = double(numbers.beta1);
  config.beta2 = double(numbers.beta2);
  config.beta3 = double(numbers.beta3);
  config.alpha = double(numbers.alpha);
  config.eps = double(numbers.eps);
  config.weight_decay = double(numbers.weight_decay);
  config.gnorm_scale = double(numbers.gnorm_scale);
  return config;
}

bnb_status update_32bit(const char *function, bnb_optimizer optimizer, DType dtype, const void *g, void *p,
                        float *state1, float *state2, float *unorm, float max_unorm, float param_norm,
                        const Numbers &numbers, int step, int64_t n) {
  bnb_optimizer_config config = config_of(optimizer, numbers);
  config.max_unorm = double(max_unorm);
  if (!has_second_state(optimizer)) state2 = nullptr;  // it may be anything
  if (!(max_unorm > 0.0f)) unorm = nullptr;
  Pointers pointers(function, nullptr, {g, p, state1, state2, unorm});
  Bare g_tensor(pointers, dtype, g, n), p_tensor(pointers, dtype, p, n), first(pointers, DType::kF32, state1, averages(optimizer), n),
      second(pointers, DType::kF32, state2, n), unorm_tensor(pointers, DType::kF32, unorm, 1);
  bnb_optimizer_tensors tensors{};
  tensors.g = g_tensor.get();
  tensors.p = p_tensor.get();
  tensors.state1 = first.get();
  if (has_second_state(optimizer)) tensors.state2 = second.get();
  if (unorm) {
    tensors.unorm_vec = unorm_tensor.get();
    tensors.param_norm = double(param_norm);
  }
  tensors.step = step;
  return pointers.finish(coptimizer_update_32bit(&config, &tensors, 1, nullptr));
}

bnb_status update_8bit(const char *function, bnb_optimizer optimizer, DType dtype, void *p, const void *g,
                       uint8_t *state1, uint8_t *state2, const float *quantiles1, const float *quantiles2,
                       float *absmax1, float *absmax2, const Numbers &numbers, int step, int64_t n) {
  bnb_optimizer_config config = config_of(optimizer, numbers);
  if (has_second_state(optimizer)) config.nonfinite = BNB_NONFINITE_SKIP_ELEMENT;  // theirs step over them, too
  const int64_t nb = blocks(n, kBlocksize);
  if (!has_second_state(optimizer)) {  // they may be anything
    state2 = nullptr;
    absmax2 = nullptr;
    quantiles2 = nullptr;
  }
  Pointers pointers(function, nullptr, {g, p, state1, state2, quantiles1, quantiles2, absmax1, absmax2});
  Bare g_tensor(pointers, dtype, g, n), p_tensor(pointers, dtype, p, n), first(pointers, DType::kU8, state1, averages(optimizer), n),
      second(pointers, DType::kU8, state2, n), scale1(pointers, DType::kF32, absmax1, averages(optimizer), nb),
      scale2(pointers, DType::kF32, absmax2, nb), code1(pointers, DType::kF32, quantiles1, kCodeSize),
      code2(pointers, DType::kF32, quantiles2, kCodeSize);
  bnb_optimizer_tensors tensors{};
  tensors.g = g_tensor.get();
  tensors.p = p_tensor.get();
  tensors.state1 = first.get();
  tensors.absmax1 = scale1.get();
  tensors.qmap1 = code1.get();
  if (has_second_state(optimizer)) {
    tensors.state2 = second.get();
    tensors.absmax2 = scale2.get();
    tensors.qmap2 = code2.get();
  }
  tensors.step = step;
  return pointers.finish(coptimizer_update_8bit(&config, &tensors, 1, kBlocksize, nullptr));
}

}  // namespace

#define BNB_DEFINE(family, suffix, T)                                                                                \
  bnb_status c##family##32bit_grad_##suffix(BNB_ARGS_OPTIMIZER_32BIT(T)) {                                           \
    return update_32bit("c" #family "32bit_grad_" #suffix, families::family, dtypes::T, g, p, state1, state2, unorm, \
                        max_unorm, param_norm,                                                                       \
                        {beta1, beta2, beta3, alpha, eps, weight_decay, lr, gnorm_scale, skip_zeros}, step, n);      \
  }
BNB_OPTIMIZERS_32BIT(BNB_DEFINE)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                                                  \
  bnb_status c##family##_8bit_blockwise_grad_##suffix(BNB_ARGS_OPTIMIZER_8BIT(T)) {                                    \
    return update_8bit("c" #family "_8bit_blockwise_grad_" #suffix, families::family, dtypes::T, p, g, state1, state2, \
                       quantiles1, quantiles2, absmax1, absmax2,                                                       \
                       {beta1, beta2, beta3, alpha, eps, weight_decay, lr, gnorm_scale, skip_zeros}, step, n);         \
  }
BNB_OPTIMIZERS_8BIT(BNB_DEFINE)
#undef BNB_DEFINE
