// SPDX-License-Identifier: MIT
// Quantiles on Metal.
#include <cstring>

#include "core/status.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

// As in the kernels.
constexpr int kThreads = 256, kQuantiles = 256, kLevels = 3;
constexpr uint64_t kRanks = 2 * kQuantiles, kBuckets = 1 << 16, kBins = 256;

// Parts of a workspace of zeros, in words; all begin at multiples of 16 bytes.
enum : uint64_t {
  kCounts0 = 0,
  kSums0 = kCounts0 + kBuckets,
  kGroup0 = kSums0 + kBins,
  kCounts1 = kGroup0 + kBuckets,
  kGroup1 = kCounts1 + kRanks * kBins,
  kCounts2 = kGroup1 + kRanks * kBins,
  kKnown = kCounts2 + kRanks * kBins,
  kNan = kKnown + 3 * kRanks,
  kWords = kNan + 1
};

// Where quantiles lie among the sorted elements, in float64, which Metal does not have.
kernels::QuantileArgs place_quantiles(float offset_of_first, int64_t n) {
  kernels::QuantileArgs args{};
  const double offset = double(offset_of_first);
  for (int i = 0; i < kQuantiles; ++i) {
    const double place = (offset + i * (1.0 - 2.0 * offset) / (kQuantiles - 1)) * double(n - 1);
    args.below[i] = uint32_t(place);
    const double fraction = place - double(args.below[i]);
    static_assert(sizeof fraction == sizeof args.fractions[i], "its bits");
    std::memcpy(&args.fractions[i], &fraction, sizeof fraction);
  }
  args.last = uint32_t(n - 1);
  return args;
}

}  // namespace

bnb_status estimate_quantiles(const EstimateQuantilesArgs &args, Queue queue) {
  if (args.n > int64_t(UINT32_MAX)) {
    return fail(BNB_ERROR_UNSUPPORTED, "A has %lld elements, on a GPU at most %lld", (long long)args.n, (long long)UINT32_MAX);
  }
  Commands commands(queue);
  const Workspace words(queue, kWords * sizeof(uint32_t));
  commands.need(words.status());
  const auto at = [&](uint64_t part) { return Place{words.buffer(), part * sizeof(uint32_t)}; };
  const kernels::FillArgs zeros{int64_t(kWords * sizeof(uint32_t)), 0, 1};
  commands.run({"tools", "fill_bytes"}, {commands.groups_for(ceil_div(zeros.bytes, kTile)), kThreads}, zeros, words);
  const Place counts[kLevels] = {at(kCounts0), at(kCounts1), at(kCounts2)}, groups[kLevels] = {at(kGroup0), at(kGroup1), Place{}};
  const Grid over_bins{commands.groups_for(kBins * kSimdWidth / kThreads), kThreads};
  kernels::QuantileArgs places = place_quantiles(args.offset, args.n);
  kernels::CountArgs count{args.n, 0, commands.aligned(16, args.a)};
  for (int level = 0; level < kLevels; ++level) {
    count.level = places.level = uint32_t(level);
    commands.run({"quantiles", "count_elements", args.dtype}, {commands.groups_for(ceil_div(args.n, kTile)), kThreads}, count, args.a,
                 counts[level], groups[0], groups[1], at(kNan));
    if (level == 0) commands.run({"quantiles", "sum_buckets"}, over_bins, count, counts[0], at(kSums0));
    commands.run({"quantiles", "find_ranks"}, over_bins, places, counts[level], at(kSums0), level == 0 ? Place{} : groups[level - 1],
                 groups[level], at(kKnown), at(kNan), args.code);
  }
  return commands.commit();
}

}  // namespace bnb::metal
