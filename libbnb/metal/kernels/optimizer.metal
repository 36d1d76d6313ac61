// SPDX-License-Identifier: MIT
// Optimizer steps with states in fp32, one read and one write of everything; and what a step of a list does before and after. EXACT.
#include "metal/kernels/optimizer_step.h"

template <int kOptimizer>
kernel void update_32bit(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]], device uchar *p [[buffer(2)]],
                         device uchar *state1 [[buffer(3)]], device uchar *state2 [[buffer(4)]],
                         device const uchar *scale [[buffer(5)]], device const ulong *update_scale [[buffer(6)]],
                         device atomic_uint *flag [[buffer(7)]], uint index [[thread_position_in_threadgroup]],
                         uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  if (is_stopped(args, flag)) return;
  const StepFactors factors = finish_factors(args, scale, update_scale);
  const bool aligned = args.aligned_states != 0;
  device uchar *slow_states = state1 + 4 * args.n;
  bool found = false;
  for (long tile = group; tile * kStepTile < args.n; tile += groups) {
    const long i = tile * kStepTile + long(index) * kStepItems, count = args.n - i;
    if (count <= 0) continue;
    float gradients[kStepItems], params[kStepItems], first[kStepItems], second[kStepItems], slow[kStepItems];
    load_items(args.g_dtype, g, args.aligned_g != 0, i, count, gradients);
    load_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
    load_floats<F32, kStepItems>(state1, aligned, i, count, first);
    if (Formula<kOptimizer>::kSecond) load_floats<F32, kStepItems>(state2, aligned, i, count, second);
    if (Formula<kOptimizer>::kSlow) load_floats<F32, kStepItems>(slow_states, args.aligned_slow != 0, i, count, slow);
    StepState states[kStepItems];
    BNB_UNROLL
    for (int j = 0; j < kStepItems; ++j) {
      states[j].first = first[j];
      states[j].second = Formula<kOptimizer>::kSecond ? second[j] : 0.0f;
      states[j].slow = Formula<kOptimizer>::kSlow ? slow[j] : 0.0f;
    }
    found = found || any_nonfinite(gradients);
    if (step_items<kOptimizer>(args, factors, gradients, states, params) == 0) continue;
    BNB_UNROLL
    for (int j = 0; j < kStepItems; ++j) {
      first[j] = states[j].first;
      second[j] = states[j].second;
      slow[j] = states[j].slow;
    }
    store_floats<F32, kStepItems>(state1, aligned, i, count, first);
    if (Formula<kOptimizer>::kSecond) store_floats<F32, kStepItems>(state2, aligned, i, count, second);
    if (Formula<kOptimizer>::kSlow) store_floats<F32, kStepItems>(slow_states, args.aligned_slow != 0, i, count, slow);
    store_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
  }
  report(args, flag, found);
}

BNB_KERNEL("update_32bit_adam", update_32bit<kAdam>)
BNB_KERNEL("update_32bit_momentum", update_32bit<kMomentum>)
BNB_KERNEL("update_32bit_rmsprop", update_32bit<kRmsprop>)
BNB_KERNEL("update_32bit_adagrad", update_32bit<kAdagrad>)
BNB_KERNEL("update_32bit_lion", update_32bit<kLion>)
BNB_KERNEL("update_32bit_ademamix", update_32bit<kAdemamix>)

// flag = whether the step is stopped before it begins.
kernel void begin_step(constant StepArgs &args [[buffer(0)]], device const uchar *found_inf [[buffer(1)]],
                       device uint *flag [[buffer(2)]], uint index [[thread_position_in_grid]]) {
  if (index == 0) flag[0] = args.stops != 0 && !ieee::is_zero(load_f32(found_inf, false, 0)) ? 1u : 0u;
}

kernel void look_for_nonfinite(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]],
                               device atomic_uint *flag [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                               uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  bool found = false;
  for (long tile = group; tile * kStepTile < args.n; tile += groups) {
    const long i = tile * kStepTile + long(index) * kStepItems;
    if (i >= args.n) continue;
    float gradients[kStepItems];
    load_items(args.g_dtype, g, args.aligned_g != 0, i, args.n - i, gradients);
    found = found || any_nonfinite(gradients);
  }
  report(args, flag, found);
}

// What stopped the step before it began stays what it is.
kernel void end_step(constant StepArgs &args [[buffer(0)]], device const uint *flag [[buffer(1)]], device uchar *found_inf [[buffer(2)]],
                     uint index [[thread_position_in_grid]]) {
  if (index != 0 || flag[0] == 0) return;
  if (args.stops == 0 || ieee::is_zero(load_f32(found_inf, false, 0))) store_f32(found_inf, false, 0, 1.0f);
}
