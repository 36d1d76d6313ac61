// SPDX-License-Identifier: MIT
// One digit of a stable sort of 32-bit keys: where each goes depends on the keys alone, not on scheduling.
//
// Each simdgroup counts the digits of a unit, a stretch of neighbouring keys; one threadgroup turns the counts of all units into places;
// each simdgroup then takes its unit once more, in order, and writes. Lanes with the same digit find each other by votes.
#include "metal/kernels/args.h"
#include "metal/kernels/common.h"

enum : int { kDigitBits = 8, kDigits = 1 << kDigitBits, kSortThreads = 256, kSortGroups = kSortThreads / kLanes };

inline uint digit_of(constant SortArgs &args, uint key) { return (key >> args.shift) & uint(kDigits - 1); }

inline long end_of_unit(constant SortArgs &args, long unit) {
  const long end = (unit + 1) * args.of_unit;
  return end < args.keys ? end : args.keys;
}

// A bit for each lane that is there and has the running lane's digit.
inline uint lanes_with_digit(bool there, uint digit) {
  uint same = ballot(there);
  BNB_UNROLL
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const bool set = (digit >> uint(bit) & 1u) != 0;
    const uint votes = ballot(set);
    same &= set ? votes : ~votes;
  }
  return same;
}

// table[unit][digit]
kernel void count_digits(constant SortArgs &args [[buffer(0)]], device const uint *keys [[buffer(1)]], device uint *table [[buffer(2)]],
                         uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                         uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint all_counts[kSortGroups * kDigits];
  threadgroup uint *counts = all_counts + simdgroup * kDigits;
  for (long unit = long(group) * kSortGroups + simdgroup; unit < args.units; unit += long(groups) * kSortGroups) {
    for (uint d = lane; d < uint(kDigits); d += kLanes) counts[d] = 0;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const long end = end_of_unit(args, unit);
    for (long first = unit * args.of_unit; first < end; first += kLanes) {
      const long i = first + lane;
      const bool there = i < end;
      const uint digit = there ? digit_of(args, keys[i]) : 0u, same = lanes_with_digit(there, digit);
      if (there && (same & ((1u << lane) - 1u)) == 0) counts[digit] += popcount(same);
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (uint d = lane; d < uint(kDigits); d += kLanes) table[unit * kDigits + d] = counts[d];
    simdgroup_barrier(mem_flags::mem_threadgroup);  // before the next unit's zeros
  }
}

// One threadgroup, a thread for each digit: counts become the places where a unit's keys with a digit begin.
kernel void place_digits(constant SortArgs &args [[buffer(0)]], device uint *table [[buffer(1)]],
                         uint digit [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint of_groups[kSortGroups];
  uint total = 0;
  for (long unit = 0; unit < args.units; ++unit) total += table[unit * kDigits + digit];
  const uint up_to_here = simd_prefix_inclusive_sum(total);
  if (lane == kLanes - 1) of_groups[simdgroup] = up_to_here;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint place = up_to_here - total;
  for (uint i = 0; i < simdgroup; ++i) place += of_groups[i];
  for (long unit = 0; unit < args.units; ++unit) {
    const uint count = table[unit * kDigits + digit];
    table[unit * kDigits + digit] = place;
    place += count;
  }
}

// to: keys in the order of their digits, and where each of them came from.
kernel void move_by_digit(constant SortArgs &args [[buffer(0)]], device const uint *keys [[buffer(1)]],
                          device const uint *origins [[buffer(2)]], device const uint *table [[buffer(3)]],
                          device uint *to_keys [[buffer(4)]], device uint *to_origins [[buffer(5)]],
                          uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                          uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint all_places[kSortGroups * kDigits];
  threadgroup uint *places = all_places + simdgroup * kDigits;
  const uint lower_lanes = (1u << lane) - 1u;
  for (long unit = long(group) * kSortGroups + simdgroup; unit < args.units; unit += long(groups) * kSortGroups) {
    for (uint d = lane; d < uint(kDigits); d += kLanes) places[d] = table[unit * kDigits + d];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const long end = end_of_unit(args, unit);
    for (long first = unit * args.of_unit; first < end; first += kLanes) {
      const long i = first + lane;
      const bool there = i < end;
      const uint key = there ? keys[i] : 0u, digit = digit_of(args, key);
      const uint same = lanes_with_digit(there, digit);
      const uint rank = popcount(same & lower_lanes), to = places[digit] + rank;
      simdgroup_barrier(mem_flags::mem_threadgroup);
      if (there && rank == 0) places[digit] += popcount(same);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      if (!there) continue;
      to_keys[to] = key;
      to_origins[to] = args.first != 0 ? uint(i) : origins[i];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}
