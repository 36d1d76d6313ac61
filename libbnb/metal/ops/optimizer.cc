// SPDX-License-Identifier: MIT
// Optimizer steps on Metal, a tensor of the list at a time: buffers of thousands of tensors cannot be bound at once. The host reads
// nothing of the device: whether a step is skipped, and how far max_unorm lets it go, stays there, and kernels look at it.
#include <cstring>

#include "core/optimizer.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kStepThreads = 256, kStepItems = 8, kStepTile = kStepThreads * kStepItems;  // as in the kernels

const char *name_of(bnb_optimizer optimizer) {
  switch (optimizer) {
    case BNB_ADAM: return "adam";
    case BNB_MOMENTUM: return "momentum";
    case BNB_RMSPROP: return "rmsprop";
    case BNB_ADAGRAD: return "adagrad";
    case BNB_LION: return "lion";
    default: return "ademamix";
  }
}

// Numbers that a block's new absmax are made from: its states, and whether it moved.
int64_t words_of_block(bnb_optimizer optimizer) { return optimizer == BNB_ADEMAMIX ? 4 : optimizer == BNB_ADAM ? 3 : 2; }

bool is_regular_size(int64_t blocksize) {
  return blocksize >= kStepItems && blocksize <= kStepTile && (blocksize & (blocksize - 1)) == 0;
}

uint64_t bits_of(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
uint32_t number_of(DType dtype) {
  return dtype == DType::kF32 ? kernels::kDtypeF32 : dtype == DType::kF16 ? kernels::kDtypeF16 : kernels::kDtypeBF16;
}

// A call: what its tensors share, and the words that kernels leave for each other.
class Step {
 public:
  Step(const OptimizerUpdateArgs &args, const Queue &queue)
      : args_(args), coded_(args.blocksize > 0), limited_(args.config.max_unorm > 0.0),
        any_size_(coded_ && !is_regular_size(args.blocksize)), optimizer_(name_of(args.config.optimizer)), commands_(queue),
        workspace_(queue, measure()) {
    commands_.need(workspace_.status());
  }

  bnb_status run() {
    const bool stops = args_.config.nonfinite == BNB_NONFINITE_SKIP_STEP;
    kernels::StepArgs list{};
    list.stops = stops;
    if (args_.found_inf) commands_.run({"optimizer", "begin_step"}, kOne, list, args_.found_inf, flag());
    for (int64_t t = 0; t < args_.count && stops; ++t) {
      const OptimizerTensor &tensor = args_.tensors[t];
      commands_.run({"optimizer", "look_for_nonfinite"}, over_tiles(tensor), describe(tensor), tensor.g, flag());
    }
    for (int64_t t = 0; t < args_.count; ++t) {
      if (args_.tensors[t].n > 0 || limited_) update(args_.tensors[t]);
    }
    if (args_.found_inf) commands_.run({"optimizer", "end_step"}, kOne, list, flag(), args_.found_inf);
    return commands_.commit();
  }

 private:
  static constexpr Grid kOne{1, kSimdWidth};

  Place flag() const { return {workspace_.buffer(), 0}; }
  Place update_scale() const { return {workspace_.buffer(), 8}; }
  Place sums() const { return {workspace_.buffer(), 16}; }
  Place words() const { return {workspace_.buffer(), words_offset_}; }

  // Bytes of workspace: for the largest of the tensors, as launches run in order.
  size_t measure() {
    int64_t largest = 0;
    for (int64_t t = 0; t < args_.count; ++t) largest = args_.tensors[t].n > largest ? args_.tensors[t].n : largest;
    words_offset_ = 16 + (limited_ ? uint64_t(2 * ceil_div(largest, kSumSection)) * sizeof(uint64_t) : 0);
    const int64_t words = any_size_ ? block_count(largest, args_.blocksize) * words_of_block(args_.config.optimizer) : 0;
    return size_t(words_offset_) + size_t(words) * sizeof(uint32_t);
  }

  Grid over_tiles(const OptimizerTensor &tensor) const {
    return {commands_.groups_for(ceil_div(tensor.n, kStepTile)), int(kStepThreads)};
  }

  void update(const OptimizerTensor &t) {
    const kernels::StepArgs step = describe(t);
    if (limited_) {
      const Grid over_sections{commands_.groups_for(step.sections), int(kStepThreads)};
      commands_.run({"optimizer_norms", coded_ ? "measure_update_8bit" : "measure_update_32bit", DType::kOther, optimizer_}, over_sections,
                    step, t.g, t.p, t.state1, t.state2, t.absmax1, t.absmax2, t.qmap1, t.qmap2, args_.scale, flag(), sums());
      commands_.run({"optimizer_norms", "settle_update"}, kOne, step, sums(), update_scale(), t.unorm, flag());
    }
    if (!coded_) {
      commands_.run({"optimizer", "update_32bit", DType::kOther, optimizer_}, over_tiles(t), step, t.g, t.p, t.state1, t.state2,
                    args_.scale, update_scale(), flag());
    } else if (!any_size_) {
      commands_.run({"optimizer_8bit", "update_8bit", DType::kOther, optimizer_}, over_tiles(t), step, t.g, t.p, t.state1, t.state2,
                    t.absmax1, t.absmax2, t.qmap1, t.qmap2, args_.scale, update_scale(), flag());
    } else {
      update_any(t, step);
    }
  }

  void update_any(const OptimizerTensor &t, const kernels::StepArgs &step) {
    const int64_t count = step.blocks * words_of_block(args_.config.optimizer);
    const auto over = [&](int64_t units) { return Grid{commands_.groups_for(ceil_div(units, kStepThreads)), int(kStepThreads)}; };
    commands_.run({"blocks", "clear_words"}, over(count), count, words());
    commands_.run({"optimizer_any", "measure_states", DType::kOther, optimizer_}, over_tiles(t), step, t.g, t.p, t.state1, t.state2,
                  t.absmax1, t.absmax2, t.qmap1, t.qmap2, args_.scale, flag(), words());
    commands_.run({"optimizer_any", "update_any", DType::kOther, optimizer_}, over_tiles(t), step, t.g, t.p, t.state1, t.state2, t.absmax1,
                  t.absmax2, t.qmap1, t.qmap2, args_.scale, update_scale(), flag(), words());
    commands_.run({"optimizer_any", "publish_absmax", DType::kOther, optimizer_}, over(step.blocks), step, t.absmax1, t.absmax2, flag(),
                  words());
  }

  kernels::StepArgs describe(const OptimizerTensor &tensor) const {
    const OptimizerNumbers numbers = make_numbers(args_.config, tensor.step);
    const OptimizerFactors factors = make_factors(numbers, 1.0, 1.0);
    kernels::StepArgs made{};
    made.n = tensor.n;
    made.sections = ceil_div(tensor.n, kSumSection);
    if (coded_ && tensor.n > 0) {
      made.blocks = block_count(tensor.n, args_.blocksize);
      // A block that is cut short is as good as one that ends there, and divides in 32 bits where it can; kernels count on a regular size.
      made.blocksize = kernels::divisor(any_size_ && tensor.n < args_.blocksize ? tensor.n : args_.blocksize, tensor.n);
    }
    made.gnorm_scale = bits_of(numbers.gnorm_scale);
    made.bias_correction = bits_of(numbers.bias_correction);
    made.step_size = bits_of(numbers.step_size);
    made.param_norm = bits_of(tensor.param_norm);
    made.max_unorm = bits_of(args_.config.max_unorm);
    made.coupled_decay = factors.coupled_decay;
    made.kept = factors.kept;
    made.beta1 = factors.beta1;
    made.rest1 = factors.rest1;
    made.beta2 = factors.beta2;
    made.rest2 = factors.rest2;
    made.beta3 = factors.beta3;
    made.rest3 = factors.rest3;
    made.mix1 = factors.mix1;
    made.mix3 = factors.mix3;
    made.eps = factors.eps;
    made.plain_gnorm_scale = factors.gnorm_scale;
    made.plain_step_size = factors.step_size;
    made.first_step = factors.first_step;
    made.g_dtype = number_of(tensor.g_dtype);
    made.p_dtype = number_of(tensor.p_dtype);
    made.aligned_g = commands_.aligned(16, tensor.g);
    made.aligned_p = commands_.aligned(16, tensor.p);
    made.aligned_states = commands_.aligned(16, tensor.state1, tensor.state2);
    made.aligned_slow = made.aligned_states && tensor.n % (coded_ ? 8 : 4) == 0;
    made.aligned_absmax = commands_.aligned(4, tensor.absmax1, tensor.absmax2);
    made.has_scale = args_.scale != nullptr;
    made.has_unorm = tensor.unorm != nullptr;
    made.has_found_inf = args_.found_inf != nullptr;
    made.skip_zeros = args_.config.skip_zeros != 0;
    made.skip_nonfinite = args_.config.nonfinite == BNB_NONFINITE_SKIP_ELEMENT;
    made.stops = args_.config.nonfinite == BNB_NONFINITE_SKIP_STEP;
    made.limited = limited_;
    return made;
  }

  const OptimizerUpdateArgs &args_;
  const bool coded_, limited_, any_size_;
  const char *const optimizer_;
  Commands commands_;
  uint64_t words_offset_ = 0;
  const Workspace workspace_;
};

}  // namespace

bnb_status optimizer_update_32bit(const OptimizerUpdateArgs &args, Queue queue) { return Step(args, queue).run(); }
bnb_status optimizer_update_8bit(const OptimizerUpdateArgs &args, Queue queue) { return Step(args, queue).run(); }

}  // namespace bnb::metal
