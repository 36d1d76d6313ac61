// SPDX-License-Identifier: MIT
// What the quantizers of blocks of any size share: zeros, and the largest magnitude of each block.
#include "metal/kernels/quantize_blocks.h"

using namespace bnb::kernels;

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

BNB_FLOAT_KERNELS("measure_absmax", measure_absmax)
