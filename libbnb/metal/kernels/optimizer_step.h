// SPDX-License-Identifier: MIT
// One step of every optimizer: the formulas of reference/optimizer.cc, operation by operation, and what kernels of steps share.
#ifndef BNB_METAL_KERNELS_OPTIMIZER_STEP_H_
#define BNB_METAL_KERNELS_OPTIMIZER_STEP_H_

#include "metal/kernels/args.h"
#include "metal/kernels/float64.h"
#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace bnb {
namespace kernels {

enum : int { kAdam, kMomentum, kRmsprop, kAdagrad, kLion, kAdemamix };
enum : int { kStepThreads = 256, kStepItems = 8, kStepTile = kStepThreads * kStepItems };  // items: of a thread, neighbours

template <int kOptimizer>
struct Formula {
  enum : bool {
    kSecond = kOptimizer == kAdam || kOptimizer == kAdemamix,
    kSlow = kOptimizer == kAdemamix,
    kDecoupled = kOptimizer == kAdam || kOptimizer == kAdemamix || kOptimizer == kLion
  };
};

// first: the average of gradients, or the only state. second: of their squares. slow: AdEMAMix's second average.
struct StepState {
  float first, second, slow;
};

inline bool is_nonfinite(float x) { return magnitude_bits(x) >= kInfinityBits; }

// What is multiplied by the tensor `scale` and by what max_unorm makes of the update.
struct StepFactors {
  float gnorm_scale, step_size;
};
inline StepFactors finish_factors(constant StepArgs &args, device const uchar *scale, Float64 update_scale) {
  StepFactors made = {args.plain_gnorm_scale, args.plain_step_size};
  if (args.has_scale != 0) made.gnorm_scale = f64_to_float(f64_multiply(args.gnorm_scale, f64_from_float(load_f32(scale, false, 0))));
  if (update_scale != f64_one()) made.step_size = f64_to_float(f64_multiply(args.step_size, update_scale));
  return made;
}
inline StepFactors finish_factors(constant StepArgs &args, device const uchar *scale, device const ulong *update_scale) {
  return finish_factors(args, scale, args.limited != 0 ? update_scale[0] : f64_one());
}

// Elements of an array whose dtype is one of the call's.
inline void load_items(uint dtype, device const uchar *array, bool aligned, long i, long count, thread float *x) {
  if (dtype == kDtypeF32) {
    load_floats<F32, kStepItems>(array, aligned, i, count, x);
  } else if (dtype == kDtypeF16) {
    load_floats<F16, kStepItems>(array, aligned, i, count, x);
  } else {
    load_floats<BF16, kStepItems>(array, aligned, i, count, x);
  }
}
inline void store_items(uint dtype, device uchar *array, bool aligned, long i, long count, thread const float *x) {
  if (dtype == kDtypeF32) {
    store_floats<F32, kStepItems>(array, aligned, i, count, x);
  } else if (dtype == kDtypeF16) {
    store_floats<F16, kStepItems>(array, aligned, i, count, x);
  } else {
    store_floats<BF16, kStepItems>(array, aligned, i, count, x);
  }
}
inline float load_item(uint dtype, device const uchar *array, bool aligned, long i) {
  if (dtype == kDtypeF32) return load_float<F32>(array, aligned, i);
  return dtype == kDtypeF16 ? load_float<F16>(array, aligned, i) : load_float<BF16>(array, aligned, i);
}

// Moves the state by the gradient and returns the direction.
template <int kOptimizer>
inline float advance(constant StepArgs &f, float g, thread StepState &s) {
  if (kOptimizer == kMomentum) {
    s.first = f.first_step != 0 ? g : ieee::multiply_add(f.beta1, s.first, g);
    return s.first;
  }
  if (kOptimizer == kRmsprop || kOptimizer == kAdagrad) {
    s.first = kOptimizer == kAdagrad ? ieee::multiply_add(g, g, s.first)
                                     : ieee::multiply_add(f.beta1, s.first, ieee::multiply(f.rest1, ieee::multiply(g, g)));
    return ieee::divide(g, ieee::add(ieee::square_root(s.first), f.eps));
  }
  const float mixed = ieee::multiply_add(f.beta1, s.first, ieee::multiply(f.rest1, g));
  if (kOptimizer == kLion) {
    s.first = ieee::multiply_add(f.beta2, s.first, ieee::multiply(f.rest2, g));
    return ieee::is_zero(mixed) || magnitude_bits(mixed) > kInfinityBits ? mixed : order_of(mixed) > 0 ? 1.0f : -1.0f;
  }
  s.first = mixed;
  if (kOptimizer == kAdemamix) s.slow = ieee::multiply_add(f.beta3, s.slow, ieee::multiply(f.rest3, g));
  s.second = ieee::multiply_add(f.beta2, s.second, ieee::multiply(f.rest2, ieee::multiply(g, g)));
  const float above = kOptimizer == kAdemamix ? ieee::multiply_add(f.mix3, s.slow, ieee::multiply(f.mix1, s.first)) : s.first;
  return ieee::divide(above, ieee::add(ieee::square_root(s.second), f.eps));
}

// One element, before p moves: false if it is skipped, its direction being 0.
template <int kOptimizer>
inline bool step_item(constant StepArgs &args, StepFactors factors, float g, float p, thread StepState &state, thread float &direction) {
  direction = 0.0f;
  if ((args.skip_zeros != 0 && ieee::is_zero(g)) || (args.skip_nonfinite != 0 && is_nonfinite(g))) return false;
  g = ieee::multiply(factors.gnorm_scale, g);
  if (!Formula<kOptimizer>::kDecoupled && !ieee::is_zero(args.coupled_decay)) g = ieee::multiply_add(args.coupled_decay, p, g);
  direction = advance<kOptimizer>(args, g, state);
  return true;
}

// A thread's items: states and p after the step. Returns which of them moved, as bits.
template <int kOptimizer>
inline uint step_items(constant StepArgs &args, StepFactors factors, thread const float *g, thread StepState *states, thread float *p) {
  uint moved = 0;
  BNB_UNROLL
  for (int j = 0; j < kStepItems; ++j) {
    float direction;
    if (!step_item<kOptimizer>(args, factors, g[j], p[j], states[j], direction)) continue;
    moved |= 1u << uint(j);
    p[j] = ieee::multiply_add(factors.step_size, direction, Formula<kOptimizer>::kDecoupled ? ieee::multiply(p[j], args.kept) : p[j]);
  }
  return moved;
}

// flag: whether a gradient was found that is not finite, or something stopped the step before.
inline bool is_stopped(constant StepArgs &args, device const atomic_uint *flag) {
  return args.stops != 0 && atomic_load_explicit(flag, memory_order_relaxed) != 0;
}
inline bool any_nonfinite(thread const float *g) {
  bool found = false;
  BNB_UNROLL
  for (int j = 0; j < kStepItems; ++j) found = found || is_nonfinite(g[j]);
  return found;
}
inline void report(constant StepArgs &args, device atomic_uint *flag, bool found) {
  if (found && args.has_found_inf != 0) atomic_store_explicit(flag, 1u, memory_order_relaxed);
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_OPTIMIZER_STEP_H_
