// SPDX-License-Identifier: MIT
// Exact quantiles without sorting: keys that order as floats do are counted by their upper 16 bits, then, in the buckets where a wanted
// element lies, by the next and by the last 8. Three reads; the host never looks. EXACT.
#include "metal/kernels/args.h"
#include "metal/kernels/float64.h"
#include "metal/kernels/floats.h"

enum : int {
  kCountThreads = 256,
  kQuantiles = 256,
  kRanks = 2 * kQuantiles,  // each quantile lies between two elements
  kBins = 256
};
enum : uint { kNowhere = 0xFFFFFFFFu };

inline uint key_of(float x) {
  const uint bits = bits_from_float(x);
  return (bits & kSignBit) != 0 ? ~bits : bits | uint(kSignBit);
}
inline float value_of(uint key) { return float_from_bits((key & kSignBit) != 0 ? key & ~uint(kSignBit) : ~key); }

// Where an element is counted. A group is a rank in a bucket that stands for all of them, plus 1; 0: no rank is there.
inline uint bucket_of(uint level, device const uint *group0, device const uint *group1, uint key) {
  if (level == 0) return key >> 16;
  const uint group = group0[key >> 16];
  if (group == 0) return kNowhere;
  const uint next = (group - 1) * kBins + (key >> 8 & uint(kBins - 1));
  if (level == 1) return next;
  const uint deeper = group1[next];
  return deeper == 0 ? uint(kNowhere) : (deeper - 1) * kBins + (key & uint(kBins - 1));
}

// counts: of this level, over zeros. nan: not 0 once there is one.
template <typename Tag>
kernel void count_elements(constant CountArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                           device atomic_uint *counts [[buffer(2)]], device const uint *group0 [[buffer(3)]],
                           device const uint *group1 [[buffer(4)]], device atomic_uint *nan [[buffer(5)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]]) {
  enum : int { kTile = kCountThreads * kItems };
  for (long tile = long(group) * kTile; tile < args.n; tile += long(groups) * kTile) {
    const long i = tile + long(index) * kItems;
    if (i - long(lane) * kItems >= args.n) continue;  // the same for all lanes
    float x[kItems];
    load_floats<Tag>(a, args.aligned != 0, i, args.n - i, x);
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      const bool there = i + j < args.n;
      if (args.level == 0 && there && magnitude_bits(x[j]) > kInfinityBits) atomic_store_explicit(nan, 1u, memory_order_relaxed);
      const uint bucket = there ? bucket_of(args.level, group0, group1, key_of(x[j])) : uint(kNowhere);
      // Often all lanes mean the same one: zeros of a sparse tensor.
      const uint first = simd_broadcast_first(bucket);
      if (simd_all(bucket == first)) {
        if (lane == 0 && first != kNowhere) atomic_fetch_add_explicit(counts + first, uint(kLanes), memory_order_relaxed);
      } else if (bucket != kNowhere) {
        atomic_fetch_add_explicit(counts + bucket, 1u, memory_order_relaxed);
      }
    }
  }
}

BNB_KERNEL("count_elements_f32", count_elements<F32>)
BNB_KERNEL("count_elements_f16", count_elements<F16>)

// sums[i]: elements in buckets 256 i to 256 i + 255 of the first level. A simdgroup for each.
kernel void sum_buckets(constant CountArgs &args [[buffer(0)]], device const uint *counts [[buffer(1)]], device uint *sums [[buffer(2)]],
                        uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                        uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  enum : int { kAtOnce = kCountThreads / kLanes };
  for (int i = int(group) * kAtOnce + int(simdgroup); i < kBins && args.level == 0; i += int(groups) * kAtOnce) {
    uint sum = 0;
    BNB_UNROLL
    for (int v = 0; v < kBins / kLanes / 4; ++v) {
      const uint4 four = reinterpret_cast<device const uint4 *>(counts + i * kBins)[v * kLanes + int(lane)];
      sum += four[0] + four[1] + four[2] + four[3];
    }
    sum = simd_sum(sum);
    if (lane == 0) sums[i] = sum;
  }
}

// A position among the elements of kBins bins: the bin that it is in, and the position there. All lanes of a simdgroup. counts: aligned to
// 16 bytes.
struct BinPlace {
  uint bin, position;
};
inline BinPlace find_bin(device const uint *counts, uint position, uint lane) {
  enum : uint { kEach = kBins / kLanes };
  device const uint4 *fours = reinterpret_cast<device const uint4 *>(counts);
  const uint4 low = fours[2 * lane], high = fours[2 * lane + 1];
  const uint sum = low[0] + low[1] + low[2] + low[3] + high[0] + high[1] + high[2] + high[3];
  const uint up_to_here = simd_prefix_inclusive_sum(sum);
  const uint has_it = ctz(ballot(up_to_here > position)), left = position - simd_shuffle(up_to_here - sum, ushort(has_it));
  // The bins of the lane that has it, one to a lane.
  const uint count = lane < kEach ? counts[has_it * kEach + lane] : 0u, up_to_bin = simd_prefix_inclusive_sum(count);
  const uint bin = ctz(ballot(up_to_bin > left));
  const BinPlace place = {has_it * kEach + bin, left - simd_shuffle(up_to_bin - count, ushort(bin))};
  return place;
}

// What is known of a rank: its position among the elements that share its bucket, that bucket in counts, bits of its key.
struct Ranks {
  device uint *positions, *buckets, *upper;
};

// Moves the ranks of a quantile down to where they lie; then their groups are known to the next pass. A simdgroup for each.
// counts, sums: of this level; before: groups of the level before; now: of this one.
kernel void find_ranks(constant QuantileArgs &args [[buffer(0)]], device const uint *counts [[buffer(1)]],
                       device const uint *sums [[buffer(2)]], device const uint *before [[buffer(3)]],
                       device atomic_uint *now [[buffer(4)]], device uint *known [[buffer(5)]], device const uint *nan [[buffer(6)]],
                       device uchar *code [[buffer(7)]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  enum : int { kAtOnce = kCountThreads / kLanes };
  const Ranks ranks = {known, known + kRanks, known + 2 * kRanks};
  for (int quantile = int(group) * kAtOnce + int(simdgroup); quantile < kQuantiles; quantile += int(groups) * kAtOnce) {
    uint keys[2];
    BNB_UNROLL
    for (int side = 0; side < 2; ++side) {
      const int rank = 2 * quantile + side;
      BinPlace place;
      uint bucket;
      if (args.level == 0) {
        const uint below = args.below[quantile];
        place = find_bin(sums, below < args.last ? below + uint(side) : args.last, lane);
        const uint coarse = place.bin;
        place = find_bin(counts + coarse * kBins, place.position, lane);
        bucket = keys[side] = coarse * kBins + place.bin;
      } else {
        const uint group_of_rank = before[ranks.buckets[rank]] - 1;
        place = find_bin(counts + group_of_rank * kBins, ranks.positions[rank], lane);
        bucket = group_of_rank * kBins + place.bin;
        keys[side] = ranks.upper[rank] << 8 | place.bin;
      }
      simdgroup_barrier(mem_flags::mem_device);  // all lanes have read
      if (args.level == 2 || lane != 0) continue;
      ranks.positions[rank] = place.position;
      ranks.buckets[rank] = bucket;
      ranks.upper[rank] = keys[side];
      atomic_fetch_max_explicit(now + bucket, uint(rank) + 1, memory_order_relaxed);
    }
    if (args.level < 2 || lane != 0) continue;
    const Float64 low = f64_from_float(value_of(keys[0])), high = f64_from_float(value_of(keys[1]));
    const bool same = low == high || (f64_magnitude(low) | f64_magnitude(high)) == 0;
    const Float64 fraction = args.fractions[quantile];
    const Float64 value = same || fraction == 0 ? low : f64_add(low, f64_multiply(f64_subtract(high, low), fraction));
    store_f32(code, false, quantile, nan[0] != 0 ? float_from_bits(kNanBits) : f64_to_float(value));
  }
}
