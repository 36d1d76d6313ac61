// SPDX-License-Identifier: MIT
// One step of every optimizer on a device: the formulas of reference/optimizer.cc, operation by operation, and how a block finds
// its work in a batch.
#ifndef BNB_GPU_OPTIMIZER_STEP_H_
#define BNB_GPU_OPTIMIZER_STEP_H_

#include "gpu/launch.h"
#include "gpu/optimizer_batch.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {

constexpr int kRowElements = kStepThreads * kFour;  // of a piece: a thread has four of each row
constexpr uint32_t kInfinityBits = 0x7F800000u, kOneBits = 0x3F800000u;

template <bnb_optimizer kOptimizer>
struct Formula {
  static constexpr bool kSecond = kOptimizer == BNB_ADAM || kOptimizer == BNB_ADEMAMIX;
  static constexpr bool kSlow = kOptimizer == BNB_ADEMAMIX;
  static constexpr bool kDecoupled = kSecond || kOptimizer == BNB_LION;
};

struct StepState {
  float first = 0.0f, second = 0.0f, slow = 0.0f;
};

// Moves the state by the gradient and returns the direction.
template <bnb_optimizer kOptimizer>
BNB_DEVICE float advance(const OptimizerFactors &f, float g, StepState &s) {
  if constexpr (kOptimizer == BNB_ADAM || kOptimizer == BNB_ADEMAMIX) {
    s.first = fmaf(f.beta1, s.first, f.rest1 * g);
    if constexpr (Formula<kOptimizer>::kSlow) s.slow = fmaf(f.beta3, s.slow, f.rest3 * g);
    s.second = fmaf(f.beta2, s.second, f.rest2 * (g * g));
    const float above = Formula<kOptimizer>::kSlow ? fmaf(f.mix3, s.slow, f.mix1 * s.first) : s.first;
    return above / (sqrtf(s.second) + f.eps);
  } else if constexpr (kOptimizer == BNB_MOMENTUM) {
    s.first = f.first_step ? g : fmaf(f.beta1, s.first, g);
    return s.first;
  } else if constexpr (kOptimizer == BNB_RMSPROP || kOptimizer == BNB_ADAGRAD) {
    s.first = kOptimizer == BNB_ADAGRAD ? fmaf(g, g, s.first) : fmaf(f.beta1, s.first, f.rest1 * (g * g));
    return g / (sqrtf(s.first) + f.eps);
  } else {
    const float mixed = fmaf(f.beta1, s.first, f.rest1 * g);
    s.first = fmaf(f.beta2, s.first, f.rest2 * g);
    return mixed > 0.0f ? 1.0f : mixed < 0.0f ? -1.0f : mixed;  // NaN stays NaN
  }
}

BNB_DEVICE bool is_nonfinite(float x) { return (formats::bits_from_float(x) & 0x7FFFFFFFu) >= kInfinityBits; }

// The step of one tensor.
template <bnb_optimizer kOptimizer>
class Step {
 public:
  BNB_DEVICE_METHOD Step(const StepBatch &batch, int t)
      : f_(make_factors(batch.sets[batch.tensors[t].set], batch.scale ? double(load<float>(batch.scale, 0)) : 1.0,
                        batch.update_scales ? batch.update_scales[t] : 1.0)),
        skips_(batch.skip_zeros || batch.skip_nonfinite),
        skip_zeros_(batch.skip_zeros),
        skip_nonfinite_(batch.skip_nonfinite) {}

  // Moves four states, and the directions, 0 where an element is skipped. Returns which are not, as bits.
  BNB_DEVICE_METHOD uint32_t operator()(const float *g, const float *p, StepState *states, float *directions,
                                        bool *found_nonfinite) const {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) *found_nonfinite = *found_nonfinite || is_nonfinite(g[j]);
    uint32_t moved = (1u << kFour) - 1;
    if (!skips_) {
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) directions[j] = advance<kOptimizer>(f_, gradient(g[j], p[j]), states[j]);
      return moved;
    }
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      StepState state = states[j];
      const float direction = advance<kOptimizer>(f_, gradient(g[j], p[j]), state);
      const bool skipped = (skip_zeros_ && g[j] == 0.0f) || (skip_nonfinite_ && is_nonfinite(g[j]));
      if (!skipped) states[j] = state;
      directions[j] = skipped ? 0.0f : direction;
      moved ^= uint32_t(skipped) << j;
    }
    return moved;
  }

  // Parameters after it.
  BNB_DEVICE_METHOD void move(const float *directions, uint32_t moved, float *p) const {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      const float to = fmaf(f_.step_size, directions[j], p[j] * f_.kept);
      if (moved >> j & 1) p[j] = to;
    }
  }

 private:
  BNB_DEVICE_METHOD float gradient(float g, float p) const {
    g = f_.gnorm_scale * g;
    if constexpr (!Formula<kOptimizer>::kDecoupled) {
      if (f_.coupled_decay != 0.0f) g = fmaf(f_.coupled_decay, p, g);
    }
    return g;
  }

  OptimizerFactors f_;
  bool skips_, skip_zeros_, skip_nonfinite_;
};

BNB_DEVICE bool is_stopped(const StepBatch &batch) {
  return batch.stop && formats::float_from_bits(*batch.stop) != 0.0f;
}

// The tensor of a piece. t: that of an earlier one.
BNB_DEVICE int tensor_of(const StepBatch &batch, int64_t piece, int t) {
  while (piece >= batch.first_piece[t + 1]) ++t;
  return t;
}

BNB_DEVICE void report(const StepBatch &batch, bool found_nonfinite) {
  if (found_nonfinite && batch.report && atomic_load(batch.report) != kOneBits) atomic_store(batch.report, kOneBits);
}

// Sums of squares of parameters and of directions, a section after the other. Reader is a class for the states with
//   Shared                               what it keeps in shared memory
//   Reader(Args, Shared &)
//   use(tensor)                          every thread: the states are this tensor's from now on
//   read<kOptimizer>(tensor, i, count, states)   four of them, anything past `count`
template <bnb_optimizer kOptimizer, typename Reader>
BNB_KERNEL void BNB_THREADS(kSectionThreads)
    measure_updates(StepBatch batch, typename Reader::Args args, double *param_sums, double *direction_sums) {
  BNB_SHARED double pieces[kSectionPieces];
  BNB_SHARED typename Reader::Shared shared;
  if (is_stopped(batch)) return;
  Reader reader(args, shared);
  int t = 0;
  for (int64_t section = grid_index(); section < batch.first_piece[batch.count]; section += grid_count()) {
    t = tensor_of(batch, section, t);
    const StepTensor &tensor = batch.tensors[t];
    const Step<kOptimizer> step(batch, t);
    reader.use(tensor);
    SquareLanes params, updates;
    for (int k = 0; k < kSectionSteps; ++k) {
      const int64_t i = section_element(section - batch.first_piece[t], k);
      const int count = count_of_four(tensor.n, i);
      if (count == 0) break;
      const RawFour raw_g = load_four(tensor.g_dtype, tensor.g, i, count);
      const RawFour raw_p = load_four(tensor.p_dtype, tensor.p, i, count);
      StepState states[kFour];
      reader.template read<kOptimizer>(tensor, i, count, states);
      float g[kFour], p[kFour], directions[kFour];
      widen_four(tensor.g_dtype, raw_g, g);
      widen_four(tensor.p_dtype, raw_p, p);
      bool found_nonfinite = false;
      step(g, p, states, directions, &found_nonfinite);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) directions[j] = j < count ? directions[j] : 0.0f;
      params.add(p);
      updates.add(directions);
    }
    const double update = section_sum(updates, pieces);
    if (thread_index() == 0) direction_sums[section] = update;
    if (tensor.param_norm > 0.0) continue;
    const double param = section_sum(params, pieces);
    if (thread_index() == 0) param_sums[section] = param;
  }
}

// Calls body with the optimizer as a constant: body(value of a type whose ::value it is).
template <bnb_optimizer kValue>
struct OptimizerConstant {
  static constexpr bnb_optimizer value = kValue;
};
template <typename Body>
void with_optimizer(bnb_optimizer optimizer, const Body &body) {
  switch (optimizer) {
    case BNB_ADAM: body(OptimizerConstant<BNB_ADAM>{}); break;
    case BNB_MOMENTUM: body(OptimizerConstant<BNB_MOMENTUM>{}); break;
    case BNB_RMSPROP: body(OptimizerConstant<BNB_RMSPROP>{}); break;
    case BNB_ADAGRAD: body(OptimizerConstant<BNB_ADAGRAD>{}); break;
    case BNB_LION: body(OptimizerConstant<BNB_LION>{}); break;
    default: body(OptimizerConstant<BNB_ADEMAMIX>{}); break;
  }
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_OPTIMIZER_STEP_H_
