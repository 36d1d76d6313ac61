// SPDX-License-Identifier: MIT
// int8 products: EXACT, but for outlier columns (SUM), whose list is made here, too.
#include "metal/kernels/int8_few.h"
#include "metal/kernels/int8_tiles.h"

BNB_KERNEL("few_rows_1_int8", multiply_few<Int8Weights, 1>)
BNB_KERNEL("few_rows_2_int8", multiply_few<Int8Weights, 2>)
BNB_KERNEL("few_rows_4_int8", multiply_few<Int8Weights, 4>)
BNB_KERNEL("few_rows_8_int8", multiply_few<Int8Weights, 8>)
BNB_KERNEL("tiles_16_int8", multiply_tiles<Int8Weights, 16>)
BNB_KERNEL("tiles_64_int8", multiply_tiles<Int8Weights, 64>)

enum : int { kListThreads = 256 };

// list = the columns of set bits, ascending, as int64; count[0] = how many. One threadgroup: there are at most 4096 words.
kernel void list_columns(constant long &words [[buffer(0)]], device const uint *marks [[buffer(1)]], device ulong *list [[buffer(2)]],
                         device uint *count [[buffer(3)]], uint index [[thread_position_in_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint sums[kListThreads / kLanes];
  uint before = 0;  // in the list already
  for (long first = 0; first < words; first += kListThreads) {
    const long word = first + long(index);
    uint bits = word < words ? marks[word] : 0u;
    const uint found = popcount(bits);
    uint place = before + simd_prefix_exclusive_sum(found);
    const uint all_found = simd_sum(found);
    if (lane == 0) sums[simdgroup] = all_found;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < uint(kListThreads / kLanes); ++i) {
      if (i < simdgroup) place += sums[i];
      before += sums[i];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next ones are written
    for (; bits != 0; bits &= bits - 1) list[place++] = ulong(word) * 32 + ctz(bits);
  }
  if (index == 0) count[0] = before;
}
