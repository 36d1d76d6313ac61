// SPDX-License-Identifier: MIT
// A stable sort of keys by their lowest bits, digit by digit: where each goes depends on the keys alone, not on scheduling.
//
// A pass has three kernels. Each warp counts the digits of a unit, a stretch of neighbouring keys; one block turns the counts of all
// units into places; each warp then takes its unit once more, in order, and writes. Lanes with the same digit find each other by
// votes.
#ifndef BNB_GPU_SORT_ROWS_H_
#define BNB_GPU_SORT_ROWS_H_

#include "gpu/launch.h"

namespace bnb::gpu {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
constexpr int kSortThreads = 256, kScanThreads = 1024;

struct SortUnits {
  int64_t keys, of_unit, units;
  uint32_t *table;  // [units][kDigits]: counts, then places

  size_t table_bytes() const { return size_t(units) * kDigits * sizeof(uint32_t); }
};

// Enough units for all warps, but not more: the block that makes places of counts goes through all of them.
inline SortUnits sort_units(const Queue &queue, int64_t keys) {
  constexpr int kStep = 64, kLeast = 256;
  const int64_t share = ceil_div(ceil_div(keys, blocks_for(queue, INT64_MAX, 16)), kStep) * kStep;
  const int64_t of_unit = share < kLeast ? kLeast : share;
  return {keys, of_unit, ceil_div(keys, of_unit), nullptr};
}
inline Grid grid_of(const Queue &queue, const SortUnits &units) {
  return {blocks_for(queue, ceil_div(units.units * 64, kSortThreads), 8), kSortThreads};
}

BNB_DEVICE int64_t first_unit() { return int64_t(grid_index()) * (kSortThreads / kWarp) + warp_index(); }
BNB_DEVICE int64_t unit_step() { return int64_t(grid_count()) * (kSortThreads / kWarp); }

// Keys: key(i) is key i; both passes of a digit see the same.
template <typename Keys>
BNB_KERNEL void BNB_THREADS(kSortThreads) count_digits(Keys keys, SortUnits units, int shift) {
  BNB_SHARED uint32_t of_warps[kSortThreads / 32][kDigits];
  uint32_t *counts = of_warps[warp_index()];
  for (int64_t unit = first_unit(); unit < units.units; unit += unit_step()) {
    for (uint32_t d = lane_index(); d < kDigits; d += kWarp) counts[d] = 0;
    warp_barrier();
    const int64_t begin = unit * units.of_unit, end = begin + units.of_unit < units.keys ? begin + units.of_unit : units.keys;
    for (int64_t i = begin + lane_index(); i < end; i += kWarp) atomic_add(counts + (keys.key(i) >> shift & (kDigits - 1)), 1);
    warp_barrier();
    for (uint32_t d = lane_index(); d < kDigits; d += kWarp) units.table[unit * kDigits + d] = counts[d];
    warp_barrier();
  }
}

// One block: four threads for each digit, each with a quarter of the units.
BNB_KERNEL void BNB_THREADS(kScanThreads) place_digits(SortUnits units) {
  constexpr int kParts = kScanThreads / kDigits;
  BNB_SHARED uint32_t sums[kParts][kDigits];
  BNB_SHARED uint32_t places[kDigits];
  const int digit = int(thread_index()) % kDigits, part = int(thread_index()) / kDigits;
  const int64_t share = ceil_div(units.units, kParts), begin = part * share;
  const int64_t end = begin + share < units.units ? begin + share : units.units;
  uint32_t sum = 0;
  for (int64_t unit = begin; unit < end; ++unit) sum += units.table[unit * kDigits + digit];
  sums[part][digit] = sum;
  barrier();
  uint32_t total = 0, before = 0;
  for (int i = 0; i < kParts; ++i) {
    if (i < part) before += sums[i][digit];
    total += sums[i][digit];
  }
  uint32_t running = total;  // of this digit and those below it
  for (int step = 1; step < kDigits; step *= 2) {
    if (part == 0) places[digit] = running;
    barrier();
    if (digit >= step) running += places[digit - step];
    barrier();
  }
  uint32_t place = running - total + before;
  for (int64_t unit = begin; unit < end; ++unit) {
    const uint32_t count = units.table[unit * kDigits + digit];
    units.table[unit * kDigits + digit] = place;
    place += count;
  }
}

// keys.move(i, key, to): key i goes to place `to`.
template <typename Keys>
BNB_KERNEL void BNB_THREADS(kSortThreads) move_by_digit(Keys keys, SortUnits units, int shift) {
  BNB_SHARED uint32_t of_warps[kSortThreads / 32][kDigits];
  uint32_t *places = of_warps[warp_index()];
  const uint64_t lower_lanes = (uint64_t(1) << lane_index()) - 1;
  for (int64_t unit = first_unit(); unit < units.units; unit += unit_step()) {
    for (uint32_t d = lane_index(); d < kDigits; d += kWarp) places[d] = units.table[unit * kDigits + d];
    warp_barrier();
    const int64_t begin = unit * units.of_unit, end = begin + units.of_unit < units.keys ? begin + units.of_unit : units.keys;
    for (int64_t first = begin; first < end; first += kWarp) {
      const int64_t i = first + lane_index();
      const bool there = i < end;
      const uint32_t key = there ? keys.key(i) : 0, digit = key >> shift & (kDigits - 1);
      uint64_t same = ballot(there);
      BNB_UNROLL
      for (int bit = 0; bit < kDigitBits; ++bit) {
        const bool set = digit >> bit & 1u;
        const uint64_t votes = ballot(set);
        same &= set ? votes : ~votes;
      }
      const uint32_t rank = count_bits(same & lower_lanes);
      const uint32_t to = places[digit] + rank;
      warp_barrier();
      if (there && rank == 0) places[digit] += count_bits(same);
      warp_barrier();
      if (there) keys.move(i, key, to);
    }
  }
}

template <typename Keys>
bnb_status sort_by_digit(const Keys &keys, const SortUnits &units, int shift, const Queue &queue) {
  bnb_status status = launch(count_digits<Keys>, grid_of(queue, units), queue, keys, units, shift);
  if (status == BNB_OK) status = launch(place_digits, {1, kScanThreads}, queue, units);
  if (status == BNB_OK) status = launch(move_by_digit<Keys>, grid_of(queue, units), queue, keys, units, shift);
  return status;
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_SORT_ROWS_H_
