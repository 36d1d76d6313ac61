// SPDX-License-Identifier: MIT
// Optimizer steps with states in fp32. EXACT.
//
// p and g of 16 bits are widened a chunk at a time. All arrays are updated where they are: their lines are in the cache
// because they were just read, so streaming stores would gain nothing.
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/optimizer_step.h"
#include "cpu/kernels/sum_squares.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Places of the same element in all arrays, everything in fp32.
struct Place {
  const char *g;
  char *p, *first, *second, *slow;
};
template <bnb_optimizer kOptimizer>
BNB_INLINE Place place_of(const OptimizerKernelArgs &args, int64_t i, const char *g, char *p) {
  Place place{g, p, static_cast<char *>(args.state1) + i * 4, nullptr, nullptr};
  if constexpr (Formula<kOptimizer>::kSecond) place.second = static_cast<char *>(args.state2) + i * 4;
  if constexpr (Formula<kOptimizer>::kSlow) place.slow = place.first + args.n * 4;
  return place;
}

template <bnb_optimizer kOptimizer, typename Lanes>
BNB_INLINE States load_states(const Place &at, int64_t i, const Lanes &lanes) {
  States s{lanes.load(at.first + i * 4), splat(0.0f), splat(0.0f)};
  if constexpr (Formula<kOptimizer>::kSecond) s.second = lanes.load(at.second + i * 4);
  if constexpr (Formula<kOptimizer>::kSlow) s.slow = lanes.load(at.slow + i * 4);
  return s;
}
template <bnb_optimizer kOptimizer, typename Lanes>
BNB_INLINE void store_states(const Place &at, int64_t i, const States &s, const Lanes &lanes) {
  lanes.store(at.first + i * 4, s.first);
  if constexpr (Formula<kOptimizer>::kSecond) lanes.store(at.second + i * 4, s.second);
  if constexpr (Formula<kOptimizer>::kSlow) lanes.store(at.slow + i * 4, s.slow);
}
BNB_INLINE States select_states(Mask m, const States &a, const States &b) {
  return {select(m, a.first, b.first), select(m, a.second, b.second), select(m, a.slow, b.slow)};
}

// Returns the largest magnitude among the gradients, lane by lane.
template <bnb_optimizer kOptimizer>
BNB_INLINE Ints update_range(const Constants &c, const Place &at, int64_t count) {
  Ints largest = splat_int(0);
  const bool skips = c.skips();
  for_lanes(count, [&](int64_t i, auto lanes) {
    const Floats g = lanes.load(at.g + i * 4), p = lanes.load(at.p + i * 4);
    const States old = load_states<kOptimizer>(at, i, lanes);
    States s = old;
    const Floats carried = advance<kOptimizer>(c, gradient<kOptimizer>(c, g, p), s);
    Floats to = moved<kOptimizer>(c, p, direction<kOptimizer>(c, s, carried));
    if (skips) {
      const Mask skip = skipped(c, g);
      s = select_states(skip, old, s);
      to = select(skip, p, to);
    }
    store_states<kOptimizer>(at, i, s, lanes);
    lanes.store(at.p + i * 4, to);
    largest = max_uint(largest, and_int(bits(g), splat_bits(kMagnitude)));
  });
  return largest;
}

template <bnb_optimizer kOptimizer>
BNB_INLINE void measure_range(const Constants &c, const Place &at, int64_t count, Buffer &directions) {
  for_lanes(count, [&](int64_t i, auto lanes) {
    const Floats g = lanes.load(at.g + i * 4), p = lanes.load(at.p + i * 4);
    States s = load_states<kOptimizer>(at, i, lanes);
    const Floats carried = advance<kOptimizer>(c, gradient<kOptimizer>(c, g, p), s);
    Floats where = direction<kOptimizer>(c, s, carried);
    if (c.skips()) where = select(skipped(c, g), splat(0.0f), where);
    lanes.store(directions.at(i), where);
  });
}

}  // namespace

void optimizer_update_32bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  const Constants c = make_constants(args);
  const bool direct = args.g_dtype == DType::kF32 && args.p_dtype == DType::kF32;
  const int64_t together = direct ? end - begin : kChunk;
  Buffer g, p;
  Ints largest = splat_int(0);
  with_optimizer(args.optimizer, [&](auto optimizer) {
    constexpr bnb_optimizer kOptimizer = decltype(optimizer)::value;
    for (int64_t first = begin; first < end; first += together) {
      const int64_t count = end - first < together ? end - first : together;
      const Place at = place_of<kOptimizer>(args, first, as_fp32(args.g_dtype, args.g, first, count, g),
                                            as_fp32(args.p_dtype, args.p, first, count, p));
      largest = max_uint(largest, update_range<kOptimizer>(c, at, count));
      store_from_fp32(args.p_dtype, args.p, first, count, p);
    }
  });
  report_nonfinite(args, largest);
}

void optimizer_measure_32bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  static_assert(kSumPiece <= kChunk, "a piece fits the buffers");
  const Constants c = make_constants(args);
  Buffer g, p, directions;
  with_optimizer(args.optimizer, [&](auto optimizer) {
    constexpr bnb_optimizer kOptimizer = decltype(optimizer)::value;
    sum_sections(args.n, args.sums, begin, end, [&](int64_t first, int64_t last) {
      const int64_t count = last - first;
      const Place at = place_of<kOptimizer>(args, first, as_fp32(args.g_dtype, args.g, first, count, g),
                                            as_fp32(args.p_dtype, args.p, first, count, p));
      measure_range<kOptimizer>(c, at, count, directions);
      return sum_piece<F32>(directions.at(0), count);
    });
  });
}

}  // namespace bnb::cpu::BNB_ISA
