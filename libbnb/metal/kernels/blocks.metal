// SPDX-License-Identifier: MIT
// What the quantizers of blocks of any size share: zeros, and the largest magnitude of each block. And copies.
#include "metal/kernels/quantize_blocks.h"

kernel void clear_words(constant long &count [[buffer(0)]], device uint *words [[buffer(1)]],
                         uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                         uint groups [[threadgroups_per_grid]]) {
  for (long i = long(group) * kQuantizeThreads + index; i < count; i += long(groups) * kQuantizeThreads) words[i] = 0;
}

kernel void clear_bytes(constant long &count [[buffer(0)]], device uchar *bytes [[buffer(1)]],
                        uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                        uint groups [[threadgroups_per_grid]]) {
  for (long i = long(group) * kQuantizeThreads + index; i < count; i += long(groups) * kQuantizeThreads) bytes[i] = 0;
}

kernel void copy_bytes(constant CopyArgs &args [[buffer(0)]], device const uchar *from [[buffer(1)]], device uchar *to [[buffer(2)]],
                       uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]]) {
  device const uint4 *vectors_from = reinterpret_cast<device const uint4 *>(from);
  device uint4 *vectors_to = reinterpret_cast<device uint4 *>(to);
  const long first = long(group) * kQuantizeThreads + index, step = long(groups) * kQuantizeThreads;
  const long vectors = args.aligned != 0 ? args.bytes / 16 : 0;
  for (long i = first; i < vectors; i += step) vectors_to[i] = vectors_from[i];
  for (long i = vectors * 16 + first; i < args.bytes; i += step) to[i] = from[i];
}

BNB_FLOAT_KERNELS("measure_absmax", measure_absmax)
