// SPDX-License-Identifier: MIT
// coptimizer_update_32bit, coptimizer_update_8bit and cmeasure_norms: validation of configurations and lists of
// tensors.
#include <cmath>

#include "api/absmax.h"
#include "core/scratch.h"

namespace bnb::api {
namespace {

// What an optimizer reads of its configuration and of its tensors.
struct Traits {
  const char *name;
  bnb_optimizer formula;  // the optimizer it stands on
  bool beta1, beta2, beta3, eps;
  bool second_state;
  int64_t averages;  // in state1
};

constexpr Traits kTraits[] = {
    {"BNB_ADAM", BNB_ADAM, true, true, false, true, true, 1},
    {"BNB_MOMENTUM", BNB_MOMENTUM, true, false, false, false, false, 1},
    {"BNB_RMSPROP", BNB_RMSPROP, true, false, false, true, false, 1},
    {"BNB_LARS", BNB_MOMENTUM, true, false, false, false, false, 1},
    {"BNB_ADAGRAD", BNB_ADAGRAD, false, false, false, true, false, 1},
    {"BNB_LION", BNB_LION, true, true, false, false, false, 1},
    {"BNB_ADEMAMIX", BNB_ADEMAMIX, true, true, true, true, true, 2},
    {"BNB_LAMB", BNB_ADAM, true, true, false, true, true, 1},
};
constexpr int32_t kOptimizers = sizeof kTraits / sizeof kTraits[0];

void check_at_least_zero(Check &check, const char *name, double value) {
  check.that(std::isfinite(value) && value >= 0.0, "config.%s is %g, must be finite and at least 0", name, value);
}

void check_beta(Check &check, bool used, const char *name, double value) {
  check.that(!used || (value >= 0.0 && value < 1.0), "config.%s is %g, must be in [0, 1)", name, value);
}

// NULL if something is wrong.
const Traits *check_config(Check &check, const bnb_optimizer_config *config) {
  check.that(config != nullptr, "config is NULL");
  if (!check.ok()) return nullptr;
  const int32_t optimizer = int32_t(config->optimizer);
  check.that(optimizer >= 0 && optimizer < kOptimizers, "config.optimizer is %d, must be 0 to %d", int(optimizer),
             int(kOptimizers - 1));
  if (!check.ok()) return nullptr;
  const Traits &traits = kTraits[optimizer];
  const int32_t nonfinite = int32_t(config->nonfinite);
  check.that(nonfinite >= BNB_NONFINITE_PROPAGATE && nonfinite <= BNB_NONFINITE_SKIP_STEP,
             "config.nonfinite is %d, must be 0 to %d", int(nonfinite), int(BNB_NONFINITE_SKIP_STEP));
  check.that(config->skip_zeros == 0 || config->skip_zeros == 1, "config.skip_zeros is %d, must be 0 or 1",
             int(config->skip_zeros));
  check.that(config->reserved == 0, "config.reserved is %d, must be 0", int(config->reserved));
  check_at_least_zero(check, "lr", config->lr);
  check_beta(check, traits.beta1, "beta1", config->beta1);
  check_beta(check, traits.beta2, "beta2", config->beta2);
  check_beta(check, traits.beta3, "beta3", config->beta3);
  if (traits.beta3) check_at_least_zero(check, "alpha", config->alpha);
  if (traits.eps) check_at_least_zero(check, "eps", config->eps);
  check_at_least_zero(check, "weight_decay", config->weight_decay);
  check_at_least_zero(check, "max_unorm", config->max_unorm);
  check.that(std::isfinite(config->gnorm_scale), "config.gnorm_scale is %g, must be finite", config->gnorm_scale);
  check.that(nonfinite != BNB_NONFINITE_SKIP_STEP || config->found_inf,
             "config.found_inf is NULL: BNB_NONFINITE_SKIP_STEP needs it");
  return check.ok() ? &traits : nullptr;
}

View check_scalar(Check &check, const char *name, const DLTensor *tensor) {
  const View view = check.input(name, tensor, bit(DType::kF32));
  check.elements(name, view, 1, "a scalar");
  return view;
}
View check_scalar_output(Check &check, const char *name, DLTensor *tensor, uint32_t dtypes = bit(DType::kF32)) {
  const View view = check.output(name, tensor, dtypes);
  check.elements(name, view, 1, "a scalar");
  return view;
}

// The codes that were found to be right, so that a list whose entries share theirs has them looked at once.
struct SeenCodes {
  const void *first = nullptr, *second = nullptr;
};

const void *check_qmap(Check &check, const char *name, const DLTensor *qmap, const void **seen) {
  const View code = check.input(name, qmap, bit(DType::kF32));
  check.elements(name, code, kCodeSize, "one per 8-bit code");
  if (check.ok() && code.data != *seen) check.sorted_code(name, code);
  if (check.ok()) *seen = code.data;
  return code.data;
}

void *check_absmax_output(Check &check, const char *name, DLTensor *absmax, int64_t nb, const char *why) {
  const View view = check.output(name, absmax, bit(DType::kF32));
  check.elements(name, view, nb, why);
  return view.data;
}

void check_unused(Check &check, const Traits &traits, const char *name, const DLTensor *tensor) {
  check.that(tensor == nullptr, "%s must be NULL: %s does not use it", name, traits.name);
}

// blocksize 0: states in fp32.
OptimizerTensor check_entry(Check &check, const Traits &traits, const bnb_optimizer_tensors &entry, int64_t blocksize,
                            SeenCodes *seen) {
  OptimizerTensor tensor{};
  const uint32_t state_dtype = bit(blocksize ? DType::kU8 : DType::kF32);
  const View g = check.input("g", entry.g, kFloats);
  const View p = check.output("p", entry.p, kFloats);
  check.elements("p", p, g.n, "one per element of g");
  const View state1 = check.output("state1", entry.state1, state_dtype);
  if (!check.ok()) return tensor;
  if (traits.averages == 1) {
    check.elements("state1", state1, g.n, "one per element of g");
  } else {
    check.that(g.n <= INT64_MAX / 2, "g has more elements than two averages can be counted for");
    if (check.ok()) check.elements("state1", state1, 2 * g.n, "two averages per element of g");
  }
  if (traits.second_state) {
    const View state2 = check.output("state2", entry.state2, state_dtype);
    check.elements("state2", state2, g.n, "one per element of g");
    tensor.state2 = state2.data;
  } else {
    check_unused(check, traits, "state2", entry.state2);
  }
  if (blocksize && check.ok()) {
    const int64_t nb = block_count(g.n, blocksize);
    tensor.absmax1 = check_absmax_output(check, "absmax1", entry.absmax1, traits.averages * nb,
                                         traits.averages == 1 ? "one per block" : "two per block");
    tensor.qmap1 = check_qmap(check, "qmap1", entry.qmap1, &seen->first);
    if (traits.second_state) {
      tensor.absmax2 = check_absmax_output(check, "absmax2", entry.absmax2, nb, "one per block");
      tensor.qmap2 = check_qmap(check, "qmap2", entry.qmap2, &seen->second);
    }
  }
  if (!blocksize) {
    check.that(!entry.absmax1 && !entry.absmax2 && !entry.qmap1 && !entry.qmap2,
               "absmax1, absmax2, qmap1 and qmap2 must be NULL: the states are in fp32");
  } else if (!traits.second_state) {
    check_unused(check, traits, "absmax2", entry.absmax2);
    check_unused(check, traits, "qmap2", entry.qmap2);
  }
  if (entry.unorm_vec) tensor.unorm = check_scalar_output(check, "unorm_vec", entry.unorm_vec).data;
  check.that(std::isfinite(entry.param_norm) && entry.param_norm >= 0.0,
             "param_norm is %g, must be finite and at least 0", entry.param_norm);
  check.that(entry.step >= 1, "step is %lld, must be at least 1", (long long)entry.step);
  tensor.g_dtype = g.dtype;
  tensor.p_dtype = p.dtype;
  tensor.g = g.data;
  tensor.p = p.data;
  tensor.state1 = state1.data;
  tensor.param_norm = entry.param_norm;
  tensor.n = g.n;
  tensor.step = entry.step;
  return tensor;
}

bnb_status no_memory(const char *function, int64_t count) {
  return fail(BNB_ERROR_OUT_OF_MEMORY, "%s: no memory for the descriptions of %lld tensors", function,
              (long long)count);
}

void check_count(Check &check, const void *tensors, int64_t count) {
  check.that(count >= 0, "count is %lld, must be at least 0", (long long)count);
  check.that(tensors || count == 0, "tensors is NULL, but count is %lld", (long long)count);
}

bnb_status update(const char *function, bnb_status (*Backend::*slot)(const OptimizerUpdateArgs &, Queue),
                  const bnb_optimizer_config *config, const bnb_optimizer_tensors *entries, int64_t count,
                  int64_t blocksize, void *stream) {
  Check check(function);
  const Traits *traits = check_config(check, config);
  check_count(check, entries, count);
  if (!check.ok()) return check.finish();
  OptimizerUpdateArgs args{*config, nullptr, nullptr, nullptr, count, blocksize};
  args.config.optimizer = traits->formula;
  if (config->scale) args.scale = check_scalar(check, "config.scale", config->scale).data;
  if (config->found_inf) args.found_inf = check_scalar_output(check, "config.found_inf", config->found_inf).data;
  if (!check.ok() || count == 0) return check.finish();

  const Scratch<OptimizerTensor> tensors(count);
  if (!tensors.usable()) return no_memory(function, count);
  SeenCodes seen;
  for (int64_t i = 0; i < count && check.ok(); ++i) {
    check.entry("tensors", i);
    tensors[i] = check_entry(check, *traits, entries[i], blocksize, &seen);
  }
  args.tensors = tensors.data();
  return check.run(slot, args, stream);
}

}  // namespace
}  // namespace bnb::api

using namespace bnb;
using namespace bnb::api;

bnb_status coptimizer_update_32bit(const bnb_optimizer_config *config, const bnb_optimizer_tensors *tensors,
                                   int64_t count, void *stream) {
  return update("coptimizer_update_32bit", &Backend::optimizer_update_32bit, config, tensors, count, 0, stream);
}

bnb_status coptimizer_update_8bit(const bnb_optimizer_config *config, const bnb_optimizer_tensors *tensors,
                                  int64_t count, int64_t blocksize, void *stream) {
  Check check("coptimizer_update_8bit");
  check.blocksize("blocksize", blocksize);
  if (!check.ok()) return check.finish();
  return update("coptimizer_update_8bit", &Backend::optimizer_update_8bit, config, tensors, count, blocksize, stream);
}

bnb_status cmeasure_norms(const DLTensor *const *tensors, int64_t count, DLTensor *norms, DLTensor *total,
                          DLTensor *found_inf, void *stream) {
  constexpr uint32_t kNormDTypes = bit(DType::kF32) | bit(DType::kF64);
  Check check("cmeasure_norms");
  check_count(check, tensors, count);
  if (!check.ok()) return check.finish();
  MeasureNormsArgs args{};
  args.count = count;
  if (norms) {
    const View view = check.output("norms", norms, kNormDTypes);
    check.elements("norms", view, count, "one per tensor");
    args.norms_dtype = view.dtype;
    args.norms = view.data;
  }
  if (total) {
    const View view = check_scalar_output(check, "total", total, kNormDTypes);
    args.total_dtype = view.dtype;
    args.total = view.data;
  }
  if (found_inf) args.found_inf = check_scalar_output(check, "found_inf", found_inf).data;
  if (!check.ok()) return check.finish();

  const Scratch<FloatArray> arrays(count);
  if (!arrays.usable()) return no_memory("cmeasure_norms", count);
  for (int64_t i = 0; i < count && check.ok(); ++i) {
    check.entry("tensors", i);
    const View view = check.input("", tensors[i], kFloats);
    arrays[i] = {view.dtype, view.data, view.n};
  }
  args.tensors = arrays.data();
  const bnb_status status = check.finish();
  if (status != BNB_OK || !check.backend()) return status;  // no tensor at all: nothing to do
  return check.run(&Backend::measure_norms, args, stream);
}
