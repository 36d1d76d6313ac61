// SPDX-License-Identifier: MIT
// How far max_unorm lets a step go: sums of squares of parameters and of directions, and what they make of the update. EXACT.
#include "metal/kernels/optimizer_codes.h"
#include "metal/kernels/section_sums.h"

// sums: sections of parameters, then sections of directions.
template <int kOptimizer, bool kCoded>
kernel void measure_update(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]], device const uchar *p [[buffer(2)]],
                           device uchar *state1 [[buffer(3)]], device uchar *state2 [[buffer(4)]], device uchar *absmax1 [[buffer(5)]],
                           device uchar *absmax2 [[buffer(6)]], device const uchar *qmap1 [[buffer(7)]],
                           device const uchar *qmap2 [[buffer(8)]], device const uchar *scale [[buffer(9)]],
                           device const atomic_uint *flag [[buffer(10)]], device ulong *sums [[buffer(11)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]]) {
  threadgroup ulong shared[kSectionLanes];
  threadgroup float map1[kCoded ? kCodes : 1];
  threadgroup float map2[kCoded ? SecondCode<kOptimizer>::kValues : 1];
  if (is_stopped(args, flag)) return;
  if (kCoded) {
    map1[index] = load_f32(qmap1, false, index);
    if (Formula<kOptimizer>::kSecond) map2[index] = load_f32(qmap2, false, index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const CodedStates at = {state1, state2, absmax1, absmax2};
  const Maps maps = {map1, map2};
  const StepFactors factors = finish_factors(args, scale, f64_one());
  const bool aligned = args.aligned_states != 0, measures_params = !f64_less(0, args.param_norm);
  for (long section = group; section < args.sections; section += groups) {
    SquareLanes params, updates;
    params.clear();
    updates.clear();
    for (int k = 0; k < kSectionSteps; ++k) {
      const long first = section_element(section, k, index);
      if (first >= args.n) break;
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) {
        const long i = first + j;
        if (i >= args.n) continue;
        StepState state = {0.0f, 0.0f, 0.0f};
        if (kCoded) {
          const uchar second = Formula<kOptimizer>::kSecond ? state2[i] : uchar(0);
          const uchar slow = Formula<kOptimizer>::kSlow ? state1[args.n + i] : uchar(0);
          state = decode_state<kOptimizer>(maps, state1[i], second, slow, load_absmax<kOptimizer>(args, at, quotient(i, args.blocksize)));
        } else {
          state.first = load_f32(state1, aligned, i);
          if (Formula<kOptimizer>::kSecond) state.second = load_f32(state2, aligned, i);
          if (Formula<kOptimizer>::kSlow) state.slow = load_f32(state1, aligned, args.n + i);
        }
        const float param = load_item(args.p_dtype, p, args.aligned_p != 0, i);
        float direction;
        step_item<kOptimizer>(args, factors, load_item(args.g_dtype, g, args.aligned_g != 0, i), param, state, direction);
        if (measures_params) params.add(j, param);
        updates.add(j, direction);
      }
    }
    const Float64 update = section_sum(updates, shared, index);
    if (index == 0) sums[args.sections + section] = update;
    if (!measures_params) continue;
    const Float64 param = section_sum(params, shared, index);
    if (index == 0) sums[section] = param;
  }
}

BNB_KERNEL("measure_update_32bit_adam", measure_update<kAdam, false>)
BNB_KERNEL("measure_update_32bit_momentum", measure_update<kMomentum, false>)
BNB_KERNEL("measure_update_32bit_rmsprop", measure_update<kRmsprop, false>)
BNB_KERNEL("measure_update_32bit_adagrad", measure_update<kAdagrad, false>)
BNB_KERNEL("measure_update_32bit_lion", measure_update<kLion, false>)
BNB_KERNEL("measure_update_32bit_ademamix", measure_update<kAdemamix, false>)
BNB_KERNEL("measure_update_8bit_adam", measure_update<kAdam, true>)
BNB_KERNEL("measure_update_8bit_momentum", measure_update<kMomentum, true>)
BNB_KERNEL("measure_update_8bit_rmsprop", measure_update<kRmsprop, true>)
BNB_KERNEL("measure_update_8bit_adagrad", measure_update<kAdagrad, true>)
BNB_KERNEL("measure_update_8bit_lion", measure_update<kLion, true>)
BNB_KERNEL("measure_update_8bit_ademamix", measure_update<kAdemamix, true>)

// One thread: from the sums to what the update is multiplied by.
kernel void settle_update(constant StepArgs &args [[buffer(0)]], device const ulong *sums [[buffer(1)]],
                          device ulong *update_scale [[buffer(2)]], device uchar *unorm [[buffer(3)]],
                          device const atomic_uint *flag [[buffer(4)]], uint index [[thread_position_in_grid]]) {
  if (index != 0 || is_stopped(args, flag)) return;
  const bool given = f64_less(0, args.param_norm);
  const Float64 param_norm = given ? args.param_norm : f64_square_root(ordered_sum(sums, args.sections));
  const Float64 root = f64_square_root(ordered_sum(sums + args.sections, args.sections));
  const Float64 norm = f64_multiply(root, args.bias_correction), limit = f64_multiply(args.max_unorm, param_norm);
  update_scale[0] = f64_less(0, limit) && f64_less(limit, norm) ? f64_divide(limit, norm) : f64_one();
  if (args.has_unorm != 0) store_f32(unorm, false, 0, f64_to_float(norm));
}
