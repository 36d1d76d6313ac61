// SPDX-License-Identifier: MIT
// Norms of lists of tensors: sections of a tensor, the tensor, the list. EXACT.
#include "metal/kernels/section_sums.h"

template <typename Tag>
kernel void sum_squares(constant NormArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device ulong *sums [[buffer(2)]],
                        uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                        uint groups [[threadgroups_per_grid]]) {
  threadgroup ulong shared[kSectionLanes];
  for (long section = group; section < args.sums; section += groups) {
    SquareLanes lanes;
    lanes.clear();
    for (int step = 0; step < kSectionSteps; ++step) {
      const long i = section_element(section, step, index);
      if (i >= args.n) break;
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) {
        if (i + j < args.n) lanes.add(j, load_float<Tag>(a, args.aligned != 0, i + j));
      }
    }
    const Float64 sum = section_sum(lanes, shared, index);
    if (index == 0) sums[section] = sum;
  }
}

BNB_FLOAT_KERNELS("sum_squares", sum_squares)

// One thread: sums in order, to their sum, to element `index` of norms, and to found_inf if it is not finite.
kernel void finish_norm(constant NormArgs &args [[buffer(0)]], device const ulong *sums [[buffer(1)]], device ulong *sum [[buffer(2)]],
                        device uchar *norms [[buffer(3)]], device uchar *found_inf [[buffer(4)]],
                        uint index [[thread_position_in_grid]]) {
  if (index != 0) return;
  const Float64 all = ordered_sum(sums, args.sums);
  sum[0] = all;
  if (args.has_norm != 0) {
    const Float64 root = f64_square_root(all);
    if (args.wide != 0) {
      store_32(norms, false, 2 * args.index, uint(root));
      store_32(norms, false, 2 * args.index + 1, uint(root >> 32));
    } else {
      store_f32(norms, false, args.index, f64_to_float(root));
    }
  }
  if (args.has_found_inf != 0 && f64_magnitude(all) >= f64_infinity()) store_f32(found_inf, false, 0, 1.0f);
}
