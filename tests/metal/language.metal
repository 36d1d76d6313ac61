// SPDX-License-Identifier: MIT
// Kernels that make use of what tests/metal/msl offers, for language_test.cc. One simdgroup or a few, results in fp32 or uint.
#include "metal/kernels/floats.h"

// out[i] = sums and maxima over the lanes, and numbers of other lanes, of the numbers 3 * i + 1.
kernel void simdgroup_functions(device uint *out [[buffer(1)]], uint index [[thread_position_in_grid]],
                                uint lane [[thread_index_in_simdgroup]], uint width [[threads_per_simdgroup]]) {
  const uint x = 3 * index + 1;
  device uint *mine = out + 10 * index;
  mine[0] = simd_sum(x);
  mine[1] = simd_max(x);
  mine[2] = simd_min(x);
  mine[3] = simd_shuffle_xor(x, ushort(5));
  mine[4] = simd_shuffle(x, ushort((lane + 7) % width));
  mine[5] = simd_prefix_exclusive_sum(x);
  mine[6] = simd_broadcast_first(x);
  const uint below = simd_shuffle_up(x, ushort(1)), above = simd_shuffle_down(x, ushort(1));
  mine[7] = lane > 0 ? below : 0u;
  mine[8] = lane + 1 < width ? above : 0u;
  mine[9] = (simd_any(index == 40) ? 1u : 0u) | (simd_all(index < 64) ? 2u : 0u);
}

// A sum over the grid, by threadgroups: in memory whose size the launch says, and with atomics.
kernel void sum(device atomic_uint *total [[buffer(1)]], threadgroup uint *partial [[threadgroup(0)]],
                uint index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]],
                uint position [[thread_position_in_grid]]) {
  partial[index] = position;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (index != 0) return;
  uint all = 0;
  for (uint i = 0; i < threads; ++i) all += partial[i];
  atomic_fetch_add_explicit(total, all, memory_order_relaxed);
}

// 8 x 8: out = a * transpose(b) + c, one simdgroup.
template <typename T>
kernel void matrices(device const T *a [[buffer(1)]], device const T *b [[buffer(2)]], device const float *c [[buffer(3)]],
                     device float *out [[buffer(4)]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup T tile[64];
  for (uint i = lane; i < 64; i += 32) tile[i] = b[i];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_matrix<T, 8, 8> left, right;
  simdgroup_matrix<float, 8, 8> sums;
  simdgroup_load(left, a, 8);
  simdgroup_load(right, tile, 8, 0, true);
  simdgroup_load(sums, c, 8);
  simdgroup_multiply_accumulate(sums, left, right, sums);
  simdgroup_store(sums, out, 8);
}
BNB_KERNEL("matrices_f32", matrices<float>)
BNB_KERNEL("matrices_f16", matrices<half>)

#if __METAL_VERSION__ >= 310
BNB_KERNEL("matrices_bf16", matrices<bfloat>)
#endif

// A race: neighbours are read without a barrier.
kernel void race(device uint *out [[buffer(1)]], uint index [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {
  threadgroup uint numbers[64];
  numbers[index] = index;
  out[index] = numbers[(index + 1) % threads];
}

// A barrier that half of the threads never reach.
kernel void half_a_barrier(device uint *out [[buffer(1)]], uint index [[thread_position_in_threadgroup]]) {
  if (index % 2 == 0) threadgroup_barrier(mem_flags::mem_threadgroup);
  out[index] = index;
}

// One element too far.
kernel void behind_the_end(device uint *out [[buffer(1)]], uint index [[thread_position_in_threadgroup]]) { out[index + 1] = index; }

// A buffer that nobody set.
kernel void unset(device uint *out [[buffer(1)]], device const uint *in [[buffer(2)]], uint index [[thread_position_in_grid]]) {
  out[index] = in[index];
}

// What a subnormal number is.
kernel void twice(device float *x [[buffer(1)]]) { x[0] = x[0] * 2.0f; }
