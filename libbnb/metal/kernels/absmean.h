// SPDX-License-Identifier: MIT
// The mean of |a| over blocks: sums in float64 in the order of bnb's core/sums.h. Element i of a piece of 1024 goes to lane i % 16, the
// upper half of the lanes is added to the lower one until one is left, then pieces of a section of 64 in order, then sections. EXACT.
#ifndef BNB_METAL_KERNELS_ABSMEAN_H_
#define BNB_METAL_KERNELS_ABSMEAN_H_

#include "metal/kernels/args.h"
#include "metal/kernels/float64.h"
#include "metal/kernels/floats.h"

namespace bnb {
namespace kernels {

enum : int { kSumThreads = 256, kSumPiece = 1024, kSumLanes = 16, kSumPiecesAtOnce = kSumThreads / kSumLanes, kSumSection = 64 };


// The sum of one lane of a piece.
template <typename Tag>
__attribute__((noinline)) inline Float64 sum_of_lane(device const uchar *a, bool aligned, long start, long elements, uint lane) {
  Float64 sum = 0;
  for (long i = lane; i < elements; i += kSumLanes) {
    sum = f64_add_positive(sum, f64_from_float(float_from_bits(magnitude_bits(load_float<Tag>(a, aligned, start + i)))));
  }
  return sum;
}

}  // namespace kernels
}  // namespace bnb

// sums[p]: piece p % pieces of block p / pieces.
template <typename Tag>
kernel void sum_magnitudes(constant AbsmeanArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device ulong *sums [[buffer(2)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]]) {
  threadgroup ulong lanes[kSumThreads];
  const long count = args.blocks * args.pieces.value;
  for (long first = long(group) * kSumPiecesAtOnce; first < count; first += long(groups) * kSumPiecesAtOnce) {
    const long piece = first + index / kSumLanes, block = quotient(piece, args.pieces), in_block = piece - block * args.pieces.value;
    const long start = block * args.blocksize + in_block * kSumPiece;
    const long left = args.n - block * args.blocksize - in_block * kSumPiece;  // below 0 for pieces that a last block does not have
    const long elements = piece < count ? smaller(smaller(left, args.blocksize - in_block * kSumPiece), long(kSumPiece)) : 0;
    lanes[index] = sum_of_lane<Tag>(a, args.aligned != 0, start, elements, index % kSumLanes);
    for (uint half_of = kSumLanes / 2; half_of > 0; half_of /= 2) {  // the lanes of a piece are lanes of one simdgroup, too
      simdgroup_barrier(mem_flags::mem_threadgroup);
      if (index % kSumLanes < half_of) lanes[index] = f64_add_positive(lanes[index], lanes[index + half_of]);
    }
    if (index % kSumLanes == 0 && piece < count) sums[piece] = lanes[index];
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

// The same for blocks that are less than a piece, one thread each: lanes come in the order in which they can be added at once, the
// upper half of what is left to the lower one.
template <typename Tag>
kernel void sum_small_blocks(constant AbsmeanArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                             device ulong *sums [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                             uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  for (long block = long(group) * kSumThreads + index; block < args.blocks; block += long(groups) * kSumThreads) {
    const long start = block * args.blocksize, elements = smaller(args.blocksize, args.n - start);
    Float64 one = 0, two = 0, four = 0, eight = 0, sum = 0;  // sums of so many lanes that wait for as many more
    for (uint i = 0; i < uint(kSumLanes); ++i) {
      const uint lane = (i & 1) << 3 | (i & 2) << 1 | (i & 4) >> 1 | (i & 8) >> 3;
      sum = sum_of_lane<Tag>(a, args.aligned != 0, start, elements, lane);
      if ((i & 1) == 0) {
        one = sum;
        continue;
      }
      sum = f64_add_positive(one, sum);
      if ((i & 2) == 0) {
        two = sum;
        continue;
      }
      sum = f64_add_positive(two, sum);
      if ((i & 4) == 0) {
        four = sum;
        continue;
      }
      sum = f64_add_positive(four, sum);
      if ((i & 8) == 0) eight = sum;
    }
    sums[block] = f64_add_positive(eight, sum);
  }
}

#endif  // BNB_METAL_KERNELS_ABSMEAN_H_
