// SPDX-License-Identifier: MIT
// The numbers of an optimizer step that depend on hyper-parameters and step alone.
#include "core/optimizer.h"

#include <cmath>

namespace bnb {
namespace {

struct BiasCorrection {
  double first = 1.0, second = 1.0;  // 1 - beta1^t and sqrt(1 - beta2^t); 1 where the optimizer has none
};

BiasCorrection bias_correction(const bnb_optimizer_config &config, int64_t step) {
  if (config.optimizer != BNB_ADAM && config.optimizer != BNB_ADEMAMIX) return {};
  return {1.0 - std::pow(config.beta1, double(step)), std::sqrt(1.0 - std::pow(config.beta2, double(step)))};
}

bool is_decoupled(bnb_optimizer optimizer) {
  return optimizer == BNB_ADAM || optimizer == BNB_ADEMAMIX || optimizer == BNB_LION;
}

}  // namespace

OptimizerNumbers make_numbers(const bnb_optimizer_config &config, int64_t step) {
  const BiasCorrection bias = bias_correction(config, step);
  const bool decoupled = is_decoupled(config.optimizer);
  OptimizerNumbers numbers{};
  numbers.gnorm_scale = config.gnorm_scale;
  numbers.bias_correction =
      config.optimizer == BNB_ADAM ? bias.second / bias.first : 1.0;  // AdEMAMix has it in mix1, mix3
  numbers.step_size = -config.lr * numbers.bias_correction;
  OptimizerFactors &factors = numbers.factors;
  factors.coupled_decay = decoupled ? 0.0f : float(config.weight_decay);
  factors.kept = decoupled ? float(1.0 - config.lr * config.weight_decay) : 1.0f;
  factors.beta1 = float(config.beta1);
  factors.rest1 = float(1.0 - config.beta1);
  factors.beta2 = float(config.beta2);
  factors.rest2 = float(1.0 - config.beta2);
  factors.beta3 = float(config.beta3);
  factors.rest3 = float(1.0 - config.beta3);
  factors.mix1 = float(bias.second / bias.first);
  factors.mix3 = float(bias.second * config.alpha);
  factors.eps = float(config.eps * bias.second);
  factors.first_step = step == 1;
  return numbers;
}

}  // namespace bnb
