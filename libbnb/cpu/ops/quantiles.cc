// SPDX-License-Identifier: MIT
// Exact quantiles without sorting: the elements they lie between are found by counting.
//
// A float's bits, with the sign turned around, order as its value does. The first pass counts the elements by the upper
// 16 bits of this key; every wanted rank then lies in one of those buckets, and there are at most 512 ranks. Two more
// passes count by the next and by the last 8 bits, in the buckets that hold a rank only. Memory: 3 MiB, whatever n is.
#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include "core/status.h"
#include "cpu/float_environment.h"
#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

constexpr int kQuantiles = 256;
constexpr int kRanks = 2 * kQuantiles;  // each quantile lies between two elements
constexpr int kBuckets = 1 << 16;

uint32_t key_of(float x) {
  const uint32_t bits = formats::bits_from_float(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
float value_of(uint32_t key) { return formats::float_from_bits(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key); }

// The element at one place of the sorted array, as far as it is known.
struct Rank {
  int64_t position;  // among the elements whose key starts with `prefix`
  uint32_t prefix;
  int group;  // which of the prefixes in play that is
};

// How many elements of each group have each value of the next bits, and the group they will be then (-1: no rank is
// there).
struct Level {
  int64_t *counts;
  int16_t *next_group;
  int bits;
};

// Moves every rank down into the bucket where it lies.
void descend(Rank *ranks, const Level &level) {
  const int64_t width = int64_t(1) << level.bits;
  int groups = 0;
  for (int i = 0; i < kRanks; ++i) {
    Rank &rank = ranks[i];
    int64_t bucket = rank.group * width;
    const int64_t first = bucket;
    while (rank.position >= level.counts[bucket]) rank.position -= level.counts[bucket++];
    if (level.next_group[bucket] < 0) level.next_group[bucket] = int16_t(groups++);
    rank.prefix = (rank.prefix << level.bits) | uint32_t(bucket - first);
    rank.group = level.next_group[bucket];
  }
}

struct Workspace {
  int64_t counts0[kBuckets], counts1[kRanks * 256], counts2[kRanks * 256];
  int16_t group0[kBuckets], group1[kRanks * 256], group2[kRanks * 256];
};

// Turns positions of the sorted array into keys. False if there is a NaN, which has no place in it.
template <typename Tag>
bool select(const void *a, int64_t n, Rank *ranks, Workspace *space) {
  std::memset(space, 0, sizeof *space);
  std::memset(space->group0, -1, sizeof space->group0);
  std::memset(space->group1, -1, sizeof space->group1);
  std::memset(space->group2, -1, sizeof space->group2);

  bool nan = false;
  for (int64_t i = 0; i < n; ++i) {
    const float x = load_float<Tag>(a, i);
    nan |= x != x;
    ++space->counts0[key_of(x) >> 16];
  }
  if (nan) return false;
  descend(ranks, {space->counts0, space->group0, 16});

  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = key_of(load_float<Tag>(a, i));
    const int group = space->group0[key >> 16];
    if (group >= 0) ++space->counts1[group * 256 + ((key >> 8) & 255)];
  }
  descend(ranks, {space->counts1, space->group1, 8});

  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = key_of(load_float<Tag>(a, i));
    const int group = space->group0[key >> 16];
    const int deeper = group >= 0 ? space->group1[group * 256 + ((key >> 8) & 255)] : -1;
    if (deeper >= 0) ++space->counts2[deeper * 256 + (key & 255)];
  }
  descend(ranks, {space->counts2, space->group2, 8});
  return true;
}

}  // namespace

bnb_status estimate_quantiles(const EstimateQuantilesArgs &args, Queue) {
  const DefaultFloatEnvironment environment;
  const std::unique_ptr<Workspace> space(new (std::nothrow) Workspace);
  if (!space) return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes of counters", sizeof(Workspace));

  const double offset = args.offset;
  double fractions[kQuantiles];
  Rank ranks[kRanks];
  for (int i = 0; i < kQuantiles; ++i) {
    const double place = (offset + i * (1.0 - 2.0 * offset) / (kQuantiles - 1)) * double(args.n - 1);
    const int64_t below = int64_t(place), last = args.n - 1;
    fractions[i] = place - double(below);
    ranks[2 * i] = {below < last ? below : last, 0, 0};
    ranks[2 * i + 1] = {below + 1 < last ? below + 1 : last, 0, 0};
  }

  bool sorted = false;
  with_float(args.dtype, [&](auto tag) { sorted = select<decltype(tag)>(args.a, args.n, ranks, space.get()); });
  for (int i = 0; i < kQuantiles; ++i) {
    const double low = value_of(ranks[2 * i].prefix), high = value_of(ranks[2 * i + 1].prefix);
    const double value = low == high || fractions[i] == 0.0 ? low : low + (high - low) * fractions[i];
    store<float>(args.code, i, sorted ? float(value) : std::numeric_limits<float>::quiet_NaN());
  }
  return BNB_OK;
}

}  // namespace bnb::cpu
