// SPDX-License-Identifier: MIT
// Exact quantiles without sorting, as cpu/ops/quantiles.cc has them: keys that order as floats do are counted by their upper 16 bits,
// then, in the buckets where a wanted element lies, by the next and by the last 8. Three reads; the host never looks. EXACT.
#include "core/status.h"
#include "gpu/launch.h"
#include "gpu/ops.h"
#include "gpu/vectors.h"

namespace bnb::gpu {
namespace {

constexpr int kQuantiles = 256;
constexpr int kRanks = 2 * kQuantiles;  // each quantile lies between two elements
constexpr int kBuckets = 1 << 16, kBins = 256;
constexpr int kCountThreads = 256;

// In a workspace of zeros. A group is a rank in a bucket that stands for all of them, plus 1; 0: no rank is there.
struct Counters {
  uint32_t counts0[kBuckets], sums0[kBins], group0[kBuckets];
  uint32_t counts1[kRanks * kBins], group1[kRanks * kBins];
  uint32_t counts2[kRanks * kBins];
  uint32_t positions[kRanks];  // of a rank among the elements that share its bucket
  uint32_t buckets[kRanks];    // where it is: an index into counts0, then counts1
  uint32_t upper[kRanks];      // bits of its key that are known
  uint32_t nan;                // 1 if there is one
};

BNB_DEVICE uint32_t key_of(float x) {
  const uint32_t bits = formats::bits_from_float(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
BNB_DEVICE float value_of(uint32_t key) { return formats::float_from_bits(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key); }

constexpr uint32_t kNowhere = 0xFFFFFFFFu;

// ++counts[bucket], for all lanes together. Often they all mean the same one: zeros of a sparse tensor.
BNB_DEVICE void count(uint32_t *counts, uint32_t bucket) {
  const uint32_t first = shuffle(bucket, 0);
  if (ballot(bucket != first) == 0) {
    if (lane_index() == 0 && first != kNowhere) atomic_add(counts + first, kWarp);
  } else if (bucket != kNowhere) {
    atomic_add(counts + bucket, 1);
  }
}

template <int kLevel>
BNB_DEVICE uint32_t bucket_of(const Counters &counters, uint32_t key) {
  if (kLevel == 0) return key >> 16;
  const uint32_t group = counters.group0[key >> 16];
  if (group == 0) return kNowhere;
  const uint32_t next = (group - 1) * kBins + (key >> 8 & (kBins - 1));
  if (kLevel == 1) return next;
  const uint32_t deeper = counters.group1[next];
  return deeper == 0 ? kNowhere : (deeper - 1) * kBins + (key & (kBins - 1));
}

template <typename Tag, int kLevel>
BNB_KERNEL void BNB_THREADS(kCountThreads) count_elements(const void *a, int64_t n, Counters *counters) {
  using T = typename Tag::Storage;
  constexpr int kTogether = 16 / int(sizeof(T));
  uint32_t *counts = kLevel == 0 ? counters->counts0 : kLevel == 1 ? counters->counts1 : counters->counts2;
  constexpr int64_t kStep = kCountThreads * kTogether;
  for (int64_t tile = grid_index(); tile * kStep < n; tile += grid_count()) {
    const int64_t i = tile * kStep + int64_t(thread_index()) * kTogether;
    const Items<T, kTogether> items = load_up_to<T, kTogether>(a, i, n - i);
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      const float x = Tag::widen(items.at[j]);
      const bool there = i + j < n;
      if (kLevel == 0 && there && x != x && atomic_load(&counters->nan) == 0) atomic_or(&counters->nan, 1);
      count(counts, there ? bucket_of<kLevel>(*counters, key_of(x)) : kNowhere);
    }
  }
}

// The sum over a warp of `mine` up to and including the running lane.
BNB_DEVICE uint32_t sum_up_to_lane(uint32_t mine) {
  const int lane = int(lane_index());
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t before = shuffle(mine, lane >= step ? lane - step : lane);
    if (lane >= step) mine += before;
  }
  return mine;
}

// sums0[i]: elements in buckets 256 i to 256 i + 255. A warp for each.
BNB_KERNEL void BNB_THREADS(kCountThreads) sum_buckets(Counters *counters) {
  const int warps = kCountThreads / kWarp;
  for (int i = int(grid_index()) * warps + int(warp_index()); i < kBins; i += int(grid_count()) * warps) {
    uint32_t sum = 0;
    for (int j = int(lane_index()); j < kBins; j += kWarp) sum += counters->counts0[i * kBins + j];
    sum = sum_up_to_lane(sum);
    if (lane_index() == kWarp - 1) counters->sums0[i] = sum;
  }
}

// The bin where the element at *position is, which becomes its position in that bin. All lanes of a warp.
BNB_DEVICE uint32_t find_bin(const uint32_t *counts, uint32_t *position) {
  constexpr int kEach = kBins / kWarp;
  uint32_t mine[kEach], sum = 0;
  BNB_UNROLL
  for (int j = 0; j < kEach; ++j) sum += mine[j] = counts[int(lane_index()) * kEach + j];
  const uint32_t up_to_here = sum_up_to_lane(sum);
  const uint64_t beyond = ballot(up_to_here > *position);
  const int lane = int(count_bits((beyond & (0 - beyond)) - 1));  // the first of them
  uint32_t bin = lane_index() * kEach, left = *position - (up_to_here - sum);
  bool found = false;
  BNB_UNROLL
  for (int j = 0; j < kEach; ++j) {
    found = found || left < mine[j];
    if (!found) {
      left -= mine[j];
      ++bin;
    }
  }
  *position = shuffle(left, lane);
  return shuffle(bin, lane);
}

struct Place {
  int64_t below;  // the element at or below a quantile
  double fraction;
};
BNB_DEVICE Place place_of(int quantile, float offset_of_first, int64_t n) {
  const double offset = offset_of_first;
  const double place = (offset + quantile * (1.0 - 2.0 * offset) / (kQuantiles - 1)) * double(n - 1);
  const int64_t below = int64_t(place);
  return {below, place - double(below)};
}

// Moves the ranks of a quantile down to where they lie; then their groups are known to the next pass. A warp for each.
template <int kLevel>
BNB_KERNEL void BNB_THREADS(kCountThreads) find_ranks(EstimateQuantilesArgs args, Counters *counters) {
  const int warps = kCountThreads / kWarp;
  for (int quantile = int(grid_index()) * warps + int(warp_index()); quantile < kQuantiles; quantile += int(grid_count()) * warps) {
    const Place place = place_of(quantile, args.offset, args.n);
    uint32_t keys[2];
    BNB_UNROLL
    for (int side = 0; side < 2; ++side) {
      const int rank = 2 * quantile + side;
      uint32_t position, bucket, upper;
      if (kLevel == 0) {
        const int64_t wanted = place.below + side, last = args.n - 1;
        position = uint32_t(wanted < last ? wanted : last);
        bucket = find_bin(counters->sums0, &position) * kBins;
        bucket += find_bin(counters->counts0 + bucket, &position);
        upper = bucket;
      } else {
        position = counters->positions[rank];
        const uint32_t group = (kLevel == 1 ? counters->group0 : counters->group1)[counters->buckets[rank]] - 1;
        const uint32_t bin = find_bin((kLevel == 1 ? counters->counts1 : counters->counts2) + group * kBins, &position);
        bucket = group * kBins + bin;
        upper = counters->upper[rank] << 8 | bin;
      }
      keys[side] = upper;
      warp_barrier();
      if (kLevel == 2 || lane_index() != 0) continue;
      counters->positions[rank] = position;
      counters->buckets[rank] = bucket;
      counters->upper[rank] = upper;
      atomic_max((kLevel == 0 ? counters->group0 : counters->group1) + bucket, uint32_t(rank) + 1);
    }
    if (kLevel < 2 || lane_index() != 0) continue;
    const double low = value_of(keys[0]), high = value_of(keys[1]);
    const double value = low == high || place.fraction == 0.0 ? low : low + (high - low) * place.fraction;
    store<float>(args.code, quantile, counters->nan ? formats::float_from_bits(0x7FC00000u) : float(value));
  }
}

template <typename Tag, int kLevel>
bnb_status one_level(const EstimateQuantilesArgs &args, Counters *counters, const Queue &queue) {
  constexpr int kItemsOfBlock = kCountThreads * 16 / int(sizeof(typename Tag::Storage));
  const Grid over_elements{blocks_for(queue, ceil_div(args.n, kItemsOfBlock), 8), kCountThreads};
  const Grid over_bins{kBins * 32 / kCountThreads, kCountThreads};  // of smaller warps there are enough, of larger ones they loop
  bnb_status status = launch(count_elements<Tag, kLevel>, over_elements, queue, args.a, args.n, counters);
  if (status == BNB_OK && kLevel == 0) status = launch(sum_buckets, over_bins, queue, counters);
  if (status == BNB_OK) status = launch(find_ranks<kLevel>, over_bins, queue, args, counters);
  return status;
}

template <typename Tag>
bnb_status all_levels(const EstimateQuantilesArgs &args, Counters *counters, const Queue &queue) {
  bnb_status status = one_level<Tag, 0>(args, counters, queue);
  if (status == BNB_OK) status = one_level<Tag, 1>(args, counters, queue);
  if (status == BNB_OK) status = one_level<Tag, 2>(args, counters, queue);
  return status;
}

}  // namespace

bnb_status estimate_quantiles(const EstimateQuantilesArgs &args, Queue queue) {
  if (args.n > int64_t(UINT32_MAX)) {
    return fail(BNB_ERROR_UNSUPPORTED, "A has %lld elements, on a GPU at most %lld", (long long)args.n, (long long)UINT32_MAX);
  }
  const Workspace workspace(queue, sizeof(Counters));
  if (workspace.status() != BNB_OK) return workspace.status();
  Counters *const counters = static_cast<Counters *>(workspace.data());
  const bnb_status status = set_bytes(queue, counters, 0, sizeof(Counters));
  if (status != BNB_OK) return status;
  return args.dtype == DType::kF32 ? all_levels<F32>(args, counters, queue) : all_levels<F16>(args, counters, queue);
}

}  // namespace bnb::gpu
