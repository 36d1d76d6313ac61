// SPDX-License-Identifier: MIT
// Optimizer steps with states in 8 bits, in blocks of a power of two of elements, 8 to kStepTile. A block is the work of a team of
// neighbouring threads that has eight elements of each in registers (of 256, the usual size, that of a simdgroup): states are looked up,
// advanced and, when their new absmax is known, encoded, with one read and one write of everything. EXACT.
#include "metal/kernels/optimizer_codes.h"

template <int kOptimizer>
kernel void update_8bit(constant StepArgs &args [[buffer(0)]], device const uchar *g [[buffer(1)]], device uchar *p [[buffer(2)]],
                        device uchar *state1 [[buffer(3)]], device uchar *state2 [[buffer(4)]], device uchar *absmax1 [[buffer(5)]],
                        device uchar *absmax2 [[buffer(6)]], device const uchar *qmap1 [[buffer(7)]],
                        device const uchar *qmap2 [[buffer(8)]], device const uchar *scale [[buffer(9)]],
                        device const ulong *update_scale [[buffer(10)]], device atomic_uint *flag [[buffer(11)]],
                        uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                        uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float map1[kCodes];
  threadgroup float map2[SecondCode<kOptimizer>::kValues];
  threadgroup int midpoints1[kCodes];
  threadgroup int midpoints2[SecondCode<kOptimizer>::kValues];
  threadgroup uint below1[kBucketWords];
  threadgroup uint below2[SecondCode<kOptimizer>::kTable];
  threadgroup uint marks1[kStepThreads / kLanes];
  threadgroup uint marks2[kStepThreads / kLanes];
  threadgroup uint maxima[kStepThreads / kLanes];
  if (is_stopped(args, flag)) return;
  map1[index] = load_f32(qmap1, false, index);
  const bool dense1 = simd_any(fill_code_table(qmap1, index, midpoints1, below1));
  if (lane == 0) marks1[simdgroup] = dense1 ? 1 : 0;
  if (Formula<kOptimizer>::kSecond) {
    map2[index] = load_f32(qmap2, false, index);
    const bool dense2 = simd_any(fill_code_table(qmap2, index, midpoints2, below2));
    if (lane == 0) marks2[simdgroup] = dense2 ? 1 : 0;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const CodedStates at = {state1, state2, absmax1, absmax2};
  const Maps maps = {map1, map2};
  const CodeTables tables = {{midpoints1, below1, any_mark(marks1)},
                             {midpoints2, below2, Formula<kOptimizer>::kSecond && any_mark(marks2)}};
  const StepFactors factors = finish_factors(args, scale, update_scale);
  const int team = int(args.blocksize.value / kStepItems);
  const bool skips = args.skip_zeros != 0 || args.skip_nonfinite != 0;
  bool found = false;
  for (long tile = group; tile * kStepTile < args.n; tile += groups) {
    const long i = tile * kStepTile + long(index) * kStepItems, count = args.n - i, block = quotient(i, args.blocksize);
    float gradients[kStepItems], params[kStepItems];
    CodesOfItems codes;
    StepState states[kStepItems];
    Largest largest;
    largest.clear();
    if (count > 0) {
      load_items(args.g_dtype, g, args.aligned_g != 0, i, count, gradients);
      load_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
      load_codes<kOptimizer>(args, at, i, count, codes);
      const Absmax old = load_absmax<kOptimizer>(args, at, block);
      BNB_UNROLL
      for (int j = 0; j < kStepItems; ++j) {
        states[j] = decode_state<kOptimizer>(maps, codes.first[j], codes.second[j], codes.slow[j], old);
      }
      found = found || any_nonfinite(gradients);
      const uint moved = step_items<kOptimizer>(args, factors, gradients, states, params);
      BNB_UNROLL
      for (int j = 0; j < kStepItems; ++j) {
        if (j < count) largest.add<kOptimizer>(states[j], (moved >> uint(j)) & 1u);
      }
      if (moved != 0) store_items(args.p_dtype, p, args.aligned_p != 0, i, count, params);
    }
    largest.first = largest_among(largest.first, team, maxima, lane, simdgroup);
    if (Formula<kOptimizer>::kSecond) largest.second = largest_among(largest.second, team, maxima, lane, simdgroup);
    if (Formula<kOptimizer>::kSlow) largest.slow = largest_among(largest.slow, team, maxima, lane, simdgroup);
    if (skips) largest.moved = largest_among(largest.moved, team, maxima, lane, simdgroup);
    if (count <= 0 || largest.moved == 0) continue;
    const Absmax absmax = largest.absmax();
    StateEncoders<kOptimizer> encoders;
    encoders.use(tables, absmax);
    BNB_UNROLL
    for (int j = 0; j < kStepItems; ++j) encoders.encode(tables, states[j], j, codes);
    store_codes<kOptimizer>(args, at, i, count, codes);
    if (int(index) % team == 0) store_absmax<kOptimizer>(args, at, block, absmax);
  }
  report(args, flag, found);
}

BNB_KERNEL("update_8bit_adam", update_8bit<kAdam>)
BNB_KERNEL("update_8bit_momentum", update_8bit<kMomentum>)
BNB_KERNEL("update_8bit_rmsprop", update_8bit<kRmsprop>)
BNB_KERNEL("update_8bit_adagrad", update_8bit<kAdagrad>)
BNB_KERNEL("update_8bit_lion", update_8bit<kLion>)
BNB_KERNEL("update_8bit_ademamix", update_8bit<kAdemamix>)
