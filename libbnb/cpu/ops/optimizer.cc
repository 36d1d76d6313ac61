// SPDX-License-Identifier: MIT
// Optimizers and norms of lists of tensors on the CPU.
#include <cmath>

#include "core/status.h"
#include "cpu/float_environment.h"
#include "cpu/ops/list.h"
#include "cpu/ops/searches.h"

namespace bnb::cpu {
namespace {

// The sums of squares of a list of tensors, section by section.
class Sums {
 public:
  template <typename ElementsOf>
  Sums(int64_t count, const ElementsOf &elements_of)
      : starts_(count + 1), sections_(count_sections(count, elements_of)) {}
  bool usable() const { return starts_.usable() && sections_.usable(); }

  int64_t sections(int64_t entry) const { return starts_[entry + 1] - starts_[entry]; }
  double *of(int64_t entry) const { return sections_.data() + starts_[entry]; }
  double sum(int64_t entry) const {
    double sum = 0.0;
    for (int64_t i = starts_[entry]; i < starts_[entry + 1]; ++i) sum += sections_[i];
    return sum;
  }

 private:
  template <typename ElementsOf>
  int64_t count_sections(int64_t count, const ElementsOf &elements_of) {
    if (!starts_.usable()) return 0;
    starts_[0] = 0;
    for (int64_t i = 0; i < count; ++i) starts_[i + 1] = starts_[i] + ceil_div(elements_of(i), kSumSection);
    return starts_[count];
  }

  Scratch<int64_t> starts_;
  Scratch<double> sections_;
};

// Sections of a tensor of n elements as the units of a list.
int64_t section_bytes(int64_t n, int64_t element_bytes) { return (n < kSumSection ? n : kSumSection) * element_bytes; }
int64_t one(int64_t) { return 1; }

// Fills the sums of squares of arrays that array(i) describes.
template <typename ArrayOf>
void sum_squares(const Kernels &kernels, WorkList &list, const Sums &sums, const ArrayOf &array) {
  list.run([&](int64_t i) { return sums.sections(i); }, one,
           [&](int64_t i) { return section_bytes(array(i).n, float_size(array(i).dtype)); },
           [&](int64_t i, int64_t begin, int64_t end) {
             SumSquaresArgs args;
             static_cast<FloatArray &>(args) = array(i);
             args.sums = sums.of(i);
             kernels.sum_squares(args, begin, end);
           });
}

struct Call {
  const OptimizerUpdateArgs &args;
  const Kernels &kernels;
  WorkList &list;
  const Sums &sums;
  OptimizerKernelArgs *tensors;

  bool eight_bits() const { return args.blocksize > 0; }
};

// Reading gradient, states and parameter and writing all but the first, for one element.
int64_t element_bytes(const Call &call, const OptimizerTensor &tensor) {
  const int64_t averages = (tensor.state2 ? 2 : 1) + (call.args.config.optimizer == BNB_ADEMAMIX);
  return float_size(tensor.g_dtype) + 2 * float_size(tensor.p_dtype) + averages * (call.eight_bits() ? 2 : 8);
}

double scale_of(const OptimizerUpdateArgs &args) { return args.scale ? double(load<float>(args.scale, 0)) : 1.0; }

// False if there is no memory.
bool describe(const Call &call, Searches *searches, int32_t *found_nonfinite) {
  const OptimizerUpdateArgs &args = call.args;
  const double scale = scale_of(args);
  for (int64_t i = 0; i < args.count; ++i) {
    OptimizerKernelArgs &tensor = call.tensors[i];
    static_cast<OptimizerTensor &>(tensor) = args.tensors[i];
    tensor.optimizer = args.config.optimizer;
    if (i > 0 && tensor.step == args.tensors[i - 1].step) {
      tensor.factors = call.tensors[i - 1].factors;
    } else {
      tensor.factors = make_factors(make_numbers(args.config, tensor.step), scale, 1.0);
    }
    tensor.skip_zeros = args.config.skip_zeros != 0;
    tensor.skip_nonfinite = args.config.nonfinite == BNB_NONFINITE_SKIP_ELEMENT;
    tensor.blocksize = args.blocksize;
    tensor.search1 = tensor.search2 = nullptr;
    if (tensor.qmap1 && !(tensor.search1 = searches->of(tensor.qmap1))) return false;
    if (tensor.qmap2 && !(tensor.search2 = searches->of(tensor.qmap2))) return false;
    tensor.found_nonfinite = found_nonfinite;
    tensor.sums = nullptr;
  }
  return true;
}

bool any_nonfinite_gradient(const Call &call) {
  sum_squares(call.kernels, call.list, call.sums, [&](int64_t i) {
    return FloatArray{call.tensors[i].g_dtype, call.tensors[i].g, call.tensors[i].n};
  });
  for (int64_t i = 0; i < call.args.count; ++i) {
    if (!std::isfinite(call.sums.sum(i))) return true;  // squares of finite numbers cannot overflow a double
  }
  return false;
}

// What max_unorm makes of the step size of every tensor.
bool scale_updates(const Call &call) {
  const OptimizerUpdateArgs &args = call.args;
  const bnb_optimizer_config &config = args.config;
  const Scratch<double> param_norms(args.count);
  if (!param_norms.usable()) return false;
  sum_squares(call.kernels, call.list, call.sums, [&](int64_t i) {
    const OptimizerKernelArgs &tensor = call.tensors[i];
    return FloatArray{tensor.p_dtype, tensor.p, tensor.param_norm > 0.0 ? 0 : tensor.n};
  });
  for (int64_t i = 0; i < args.count; ++i) {
    const double given = call.tensors[i].param_norm;
    param_norms[i] = given > 0.0 ? given : std::sqrt(call.sums.sum(i));
    call.tensors[i].sums = call.sums.of(i);
  }
  call.list.run([&](int64_t i) { return call.sums.sections(i); }, one,
                [&](int64_t i) { return section_bytes(call.tensors[i].n, element_bytes(call, call.tensors[i])); },
                [&](int64_t i, int64_t begin, int64_t end) {
                  const auto measure =
                      call.eight_bits() ? call.kernels.optimizer_measure_8bit : call.kernels.optimizer_measure_32bit;
                  measure(call.tensors[i], begin, end);
                });
  const double scale = scale_of(args);
  for (int64_t i = 0; i < args.count; ++i) {
    OptimizerKernelArgs &tensor = call.tensors[i];
    const OptimizerNumbers numbers = make_numbers(config, tensor.step);
    const double norm = update_norm(numbers, std::sqrt(call.sums.sum(i)));
    tensor.factors = make_factors(numbers, scale, update_scale(config.max_unorm, param_norms[i], norm));
    if (tensor.unorm) store<float>(tensor.unorm, 0, float(norm));
  }
  return true;
}

void update(const Call &call) {
  if (call.eight_bits()) {
    const int64_t blocksize = call.args.blocksize;
    const int64_t blocks = blocksize < kElementsPerPiece ? kElementsPerPiece / blocksize : 1;
    call.list.run([&](int64_t i) { return block_count(call.tensors[i].n, blocksize); }, [&](int64_t) { return blocks; },
                  [&](int64_t i) {
                    const int64_t n = call.tensors[i].n;
                    return (n < blocksize ? n : blocksize) * element_bytes(call, call.tensors[i]);
                  },
                  [&](int64_t i, int64_t begin, int64_t end) {
                    call.kernels.optimizer_update_8bit(call.tensors[i], begin, end);
                  });
  } else {
    call.list.run([&](int64_t i) { return call.tensors[i].n; }, [](int64_t) { return kElementsPerPiece; },
                  [&](int64_t i) { return element_bytes(call, call.tensors[i]); },
                  [&](int64_t i, int64_t begin, int64_t end) {
                    call.kernels.optimizer_update_32bit(call.tensors[i], begin, end);
                  });
  }
}

bnb_status run(const OptimizerUpdateArgs &args) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const DefaultFloatEnvironment environment;
  const bool may_skip = args.config.nonfinite == BNB_NONFINITE_SKIP_STEP;
  if (may_skip && load<float>(args.found_inf, 0) != 0.0f) return BNB_OK;

  const bool needs_norms = args.config.max_unorm > 0.0;
  WorkList list(args.count);
  const Sums sums(args.count, [&](int64_t i) { return may_skip || needs_norms ? args.tensors[i].n : 0; });
  const Scratch<OptimizerKernelArgs> tensors(args.count);
  const Call call{args, *kernels, list, sums, tensors.data()};
  Searches searches;
  int32_t found_nonfinite = 0;
  if (!list.usable() || !sums.usable() || !tensors.usable() || !describe(call, &searches, &found_nonfinite)) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "an optimizer step: no memory for the work on %lld tensors",
                (long long)args.count);
  }
  if (may_skip && any_nonfinite_gradient(call)) {
    store<float>(args.found_inf, 0, 1.0f);
    return BNB_OK;
  }
  if (needs_norms && !scale_updates(call)) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "an optimizer step: no memory for %lld norms", (long long)args.count);
  }
  update(call);
  if (args.found_inf && __atomic_load_n(&found_nonfinite, __ATOMIC_RELAXED)) store<float>(args.found_inf, 0, 1.0f);
  return BNB_OK;
}

void store_number(DType dtype, void *array, int64_t i, double value) {
  if (dtype == DType::kF64) {
    store<double>(array, i, value);
  } else {
    store<float>(array, i, float(value));
  }
}

}  // namespace

bnb_status optimizer_update_32bit(const OptimizerUpdateArgs &args, Queue) { return run(args); }
bnb_status optimizer_update_8bit(const OptimizerUpdateArgs &args, Queue) { return run(args); }

bnb_status measure_norms(const MeasureNormsArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const DefaultFloatEnvironment environment;
  WorkList list(args.count);
  const Sums sums(args.count, [&](int64_t i) { return args.tensors[i].n; });
  if (!list.usable() || !sums.usable()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "cmeasure_norms: no memory for the sums of %lld tensors",
                (long long)args.count);
  }
  sum_squares(*kernels, list, sums, [&](int64_t i) { return args.tensors[i]; });
  double total = 0.0;
  for (int64_t i = 0; i < args.count; ++i) {
    const double sum = sums.sum(i);
    if (args.norms) store_number(args.norms_dtype, args.norms, i, std::sqrt(sum));
    total += sum;
  }
  if (args.total) store_number(args.total_dtype, args.total, 0, std::sqrt(total));
  if (args.found_inf && !std::isfinite(total)) store<float>(args.found_inf, 0, 1.0f);
  return BNB_OK;
}

}  // namespace bnb::cpu
