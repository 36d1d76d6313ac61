// SPDX-License-Identifier: MIT
// Optimizer steps with states in 8 bits, in blocks of any size: the new absmax to words of their own, by atomics, since the old ones are
// needed; then the step, states being advanced a second time; then the new absmax to their place. EXACT.
#include "metal/kernels/optimizer_codes.h"

// Words of a launch, `blocks` of each: bits of the largest first, second and slow state, those that there are; whether an element moved.
template <int kOptimizer>
struct NewAbsmax {
  enum : int { kSlow = Formula<kOptimizer>::kSecond ? 2 : 1, kMoved = kSlow + (Formula<kOptimizer>::kSlow ? 1 : 0) };

  // Looks first: large blocks would have every simdgroup wait for its turn at one word.
  static inline void raise_to(device atomic_uint *word, uint bits) {
    if (bits > atomic_load_explicit(word, memory_order_relaxed)) atomic_fetch_max_explicit(word, bits, memory_order_relaxed);
  }
  static inline void raise(device atomic_uint *words, long blocks, long block, Largest largest) {
    raise_to(words + block, largest.first);
    if (Formula<kOptimizer>::kSecond) raise_to(words + blocks + block, largest.second);
    if (Formula<kOptimizer>::kSlow) raise_to(words + kSlow * blocks + block, largest.slow);
    raise_to(words + kMoved * blocks + block, largest.moved);
  }
  static inline Largest load(device const uint *words, long blocks, long block) {
    const Largest largest = {words[block], Formula<kOptimizer>::kSecond ? words[blocks + block] : 0,
                             Formula<kOptimizer>::kSlow ? words[kSlow * blocks + block] : 0, words[kMoved * blocks + block]};
    return largest;
  }
};

template <int kOptimizer>
kernel void measure_states(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]], device const uchar *p [[buffer(2)]],
                           device uchar *state1 [[buffer(3)]], device uchar *state2 [[buffer(4)]], device uchar *absmax1 [[buffer(5)]],
                           device uchar *absmax2 [[buffer(6)]], device const uchar *qmap1 [[buffer(7)]],
                           device const uchar *qmap2 [[buffer(8)]], device const uchar *scale [[buffer(9)]],
                           device const atomic_uint *flag [[buffer(10)]], device atomic_uint *words [[buffer(11)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float map1[kCodes];
  threadgroup float map2[SecondCode<kOptimizer>::kValues];
  if (is_stopped(args, flag)) return;
  map1[index] = load_f32(qmap1, false, index);
  if (Formula<kOptimizer>::kSecond) map2[index] = load_f32(qmap2, false, index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const CodedStates at = {state1, state2, absmax1, absmax2};
  const Maps maps = {map1, map2};
  const StepFactors factors = finish_factors(args, scale, f64_one());
  for (long tile = group; tile * kStepTile < args.n; tile += groups) {
    const long start = tile * kStepTile, i = start + long(index) * kStepItems, count = args.n - i;
    const long last = (start + kStepTile < args.n ? start + kStepTile : args.n) - 1, start_block = quotient(start, args.blocksize);
    const bool one_block = start_block == quotient(last, args.blocksize);  // for all threads
    Largest largest;
    largest.clear();
    if (count > 0) {
      float gradients[kStepItems], params[kStepItems];
      CodesOfItems codes;
      StepState states[kStepItems];
      load_items(args.g_dtype, g, args.aligned_g != 0, i, count, gradients);
      load_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
      load_codes<kOptimizer>(args, at, i, count, codes);
      decode_items<kOptimizer>(args, at, maps, i, count, codes, states);
      const uint moved = step_items<kOptimizer>(args, factors, gradients, states, params);
      long block = one_block ? start_block : quotient(i, args.blocksize);
      int end = items_before_end(args, i, block);
      BNB_UNROLL
      for (int j = 0; j < kStepItems; ++j) {
        if (j >= count) continue;
        if (j == end) {
          NewAbsmax<kOptimizer>::raise(words, args.blocks, block, largest);
          largest.clear();
          end = items_before_end(args, i, ++block);
        }
        largest.add<kOptimizer>(states[j], (moved >> uint(j)) & 1u);
      }
      if (!one_block) NewAbsmax<kOptimizer>::raise(words, args.blocks, block, largest);
    }
    if (!one_block) continue;
    largest.first = simd_max(largest.first);
    if (Formula<kOptimizer>::kSecond) largest.second = simd_max(largest.second);
    if (Formula<kOptimizer>::kSlow) largest.slow = simd_max(largest.slow);
    largest.moved = simd_max(largest.moved);
    if (lane == 0) NewAbsmax<kOptimizer>::raise(words, args.blocks, start_block, largest);
  }
}

template <int kOptimizer>
kernel void update_any(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]], device uchar *p [[buffer(2)]],
                       device uchar *state1 [[buffer(3)]], device uchar *state2 [[buffer(4)]], device uchar *absmax1 [[buffer(5)]],
                       device uchar *absmax2 [[buffer(6)]], device const uchar *qmap1 [[buffer(7)]],
                       device const uchar *qmap2 [[buffer(8)]], device const uchar *scale [[buffer(9)]],
                       device const ulong *update_scale [[buffer(10)]], device atomic_uint *flag [[buffer(11)]],
                       device const uint *words [[buffer(12)]], uint index [[thread_position_in_threadgroup]],
                       uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  threadgroup float map1[kCodes];
  threadgroup float map2[SecondCode<kOptimizer>::kValues];
  threadgroup int midpoints1[kCodes];
  threadgroup int midpoints2[SecondCode<kOptimizer>::kValues];
  if (is_stopped(args, flag)) return;
  map1[index] = load_f32(qmap1, false, index);
  midpoints1[index] = midpoint_order(qmap1, index);
  if (Formula<kOptimizer>::kSecond) {
    map2[index] = load_f32(qmap2, false, index);
    midpoints2[index] = midpoint_order(qmap2, index);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const CodedStates at = {state1, state2, absmax1, absmax2};
  const Maps maps = {map1, map2};
  const CodeTables tables = {{midpoints1, nullptr, true}, {midpoints2, nullptr, true}};
  const StepFactors factors = finish_factors(args, scale, update_scale);
  bool found = false;
  for (long tile = group; tile * kStepTile < args.n; tile += groups) {
    const long i = tile * kStepTile + long(index) * kStepItems, count = args.n - i;
    if (count <= 0) continue;
    float gradients[kStepItems], params[kStepItems];
    CodesOfItems codes;
    StepState states[kStepItems];
    load_items(args.g_dtype, g, args.aligned_g != 0, i, count, gradients);
    load_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
    load_codes<kOptimizer>(args, at, i, count, codes);
    decode_items<kOptimizer>(args, at, maps, i, count, codes, states);
    found = found || any_nonfinite(gradients);
    if (step_items<kOptimizer>(args, factors, gradients, states, params) != 0) {
      store_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
    }
    long block = quotient(i, args.blocksize);
    int end = items_before_end(args, i, block);
    Largest largest = NewAbsmax<kOptimizer>::load(words, args.blocks, block);
    StateEncoders<kOptimizer> encoders;
    encoders.use(tables, largest.absmax());
    BNB_UNROLL
    for (int j = 0; j < kStepItems; ++j) {
      if (j >= count) continue;
      if (j == end) {
        largest = NewAbsmax<kOptimizer>::load(words, args.blocks, ++block);
        encoders.use(tables, largest.absmax());
        end = items_before_end(args, i, block);
      }
      if (largest.moved != 0) encoders.encode(tables, states[j], j, codes);
    }
    store_codes<kOptimizer>(args, at, i, count, codes);
  }
  report(args, flag, found);
}

template <int kOptimizer>
kernel void publish_absmax(constant StepArgs &args [[buffer(0)]], device uchar *absmax1 [[buffer(1)]], device uchar *absmax2 [[buffer(2)]],
                           device const atomic_uint *flag [[buffer(3)]], device const uint *words [[buffer(4)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]]) {
  if (is_stopped(args, flag)) return;
  const CodedStates at = {nullptr, nullptr, absmax1, absmax2};
  for (long block = long(group) * kStepThreads + index; block < args.blocks; block += long(groups) * kStepThreads) {
    const Largest largest = NewAbsmax<kOptimizer>::load(words, args.blocks, block);
    if (largest.moved != 0) store_absmax<kOptimizer>(args, at, block, largest.absmax());
  }
}

BNB_KERNEL("measure_states_adam", measure_states<kAdam>)
BNB_KERNEL("measure_states_momentum", measure_states<kMomentum>)
BNB_KERNEL("measure_states_rmsprop", measure_states<kRmsprop>)
BNB_KERNEL("measure_states_adagrad", measure_states<kAdagrad>)
BNB_KERNEL("measure_states_lion", measure_states<kLion>)
BNB_KERNEL("measure_states_ademamix", measure_states<kAdemamix>)
BNB_KERNEL("update_any_adam", update_any<kAdam>)
BNB_KERNEL("update_any_momentum", update_any<kMomentum>)
BNB_KERNEL("update_any_rmsprop", update_any<kRmsprop>)
BNB_KERNEL("update_any_adagrad", update_any<kAdagrad>)
BNB_KERNEL("update_any_lion", update_any<kLion>)
BNB_KERNEL("update_any_ademamix", update_any<kAdemamix>)
BNB_KERNEL("publish_absmax_adam", publish_absmax<kAdam>)
BNB_KERNEL("publish_absmax_momentum", publish_absmax<kMomentum>)
BNB_KERNEL("publish_absmax_rmsprop", publish_absmax<kRmsprop>)
BNB_KERNEL("publish_absmax_adagrad", publish_absmax<kAdagrad>)
BNB_KERNEL("publish_absmax_lion", publish_absmax<kLion>)
BNB_KERNEL("publish_absmax_ademamix", publish_absmax<kAdemamix>)
