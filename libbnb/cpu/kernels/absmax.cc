// SPDX-License-Identifier: MIT
// absmax[b] = max |a - subtract| / divisor over block b. EXACT.
//
// Without their sign, floats are ordered as their bits are, and NaN lies above infinity: an integer maximum in any order gives the
// exact result. 16-bit floats are compared as they are and widened once.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Lanes among which is the largest magnitude of p[0, count), as bits, or those of some NaN.
template <typename Tag>
BNB_INLINE Ints largest_floats(const char *p, int64_t count, Floats subtract) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Ints mask = splat_bits(kMagnitudeBits);
  const auto magnitude = [&](int64_t i) { return and_int(bits(sub(load<Tag>(p + i * kSize), subtract)), mask); };
  Ints m0 = splat_int(0), m1 = m0, m2 = m0, m3 = m0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    m0 = max_uint(m0, magnitude(i));
    m1 = max_uint(m1, magnitude(i + kLanes));
    m2 = max_uint(m2, magnitude(i + 2 * kLanes));
    m3 = max_uint(m3, magnitude(i + 3 * kLanes));
  }
  for (; i + kLanes <= count; i += kLanes) m0 = max_uint(m0, magnitude(i));
  if (i < count) {
    const Floats x = sub(load_some<Tag>(p + i * kSize, count - i), subtract);
    m1 = max_uint(m1, select_int(first_lanes(count - i), and_int(bits(x), mask), splat_int(0)));
  }
  return max_uint(max_uint(m0, m1), max_uint(m2, m3));
}

// The same for 16-bit floats: 16 bits in each lane.
BNB_INLINE Ints largest_halves(const char *p, int64_t count) {
  const Halves mask = splat_halves(0x7FFF);
  const auto magnitude = [&](int64_t i) { return and_halves(load_halves(p + i * 2), mask); };
  Halves m0 = splat_halves(0), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * kHalfLanes <= count; i += 2 * kHalfLanes) {
    m0 = max_halves(m0, magnitude(i));
    m1 = max_halves(m1, magnitude(i + kHalfLanes));
  }
  for (; i + kHalfLanes <= count; i += kHalfLanes) m0 = max_halves(m0, magnitude(i));
  if (i < count) m1 = max_halves(m1, and_halves(load_halves_some(p + i * 2, count - i), mask));
  return fold_halves(max_halves(m0, m1));
}

// The numbers whose bits are in these lanes.
template <typename Number>
BNB_INLINE Floats widen(const uint32_t (&lanes)[kLanes]) {
  if constexpr (sizeof(typename Number::Storage) == 4) return load<Number>(lanes);
  uint16_t halves[kLanes];
  for (int i = 0; i < kLanes; ++i) halves[i] = uint16_t(lanes[i]);
  return load<Number>(halves);
}

// largest(p, count): the lanes of one block, holding numbers as the dtype Number has them.
template <typename Tag, typename Number, typename Largest>
BNB_INLINE void write_scales(const AbsmaxArgs &args, int64_t begin, int64_t end, const Largest &largest) {
  const Floats divisor = splat(args.divisor), nan = from_bits(splat_bits(kNanBits));
  const auto lanes_of = [&](int64_t block) {
    const int64_t first = block * args.blocksize;
    const int64_t count = args.n - first < args.blocksize ? args.n - first : args.blocksize;
    return largest(static_cast<const char *>(args.a) + first * int64_t(sizeof(typename Tag::Storage)), count);
  };
  for (int64_t first = begin; first < end; first += kLanes) {
    const int64_t count = end - first < kLanes ? end - first : kLanes;
    uint32_t maxima[kLanes] = {};
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {  // one reduction across lanes for four blocks
      const int64_t block = first + i;
      reduce_max_uint(lanes_of(block), lanes_of(block + 1), lanes_of(block + 2), lanes_of(block + 3), maxima + i);
    }
    for (; i < count; ++i) maxima[i] = reduce_max_uint(lanes_of(first + i));
    const Floats magnitudes = widen<Number>(maxima);
    store_some<F32>(static_cast<char *>(args.absmax) + first * 4, div(select(is_nan(magnitudes), nan, magnitudes), divisor), count);
  }
}

template <typename Tag>
void absmax_of(const AbsmaxArgs &args, int64_t begin, int64_t end) {
  if constexpr (sizeof(typename Tag::Storage) == 2) {
    if (args.subtract == 0.0f) return write_scales<Tag, Tag>(args, begin, end, largest_halves);
  }
  const Floats subtract = splat(args.subtract);
  write_scales<Tag, F32>(args, begin, end,
                         [&](const char *p, int64_t count) { return largest_floats<Tag>(p, count, subtract); });
}

}  // namespace

void absmax(const AbsmaxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) { absmax_of<decltype(tag)>(args, begin, end); });
}

}  // namespace bnb::cpu::BNB_ISA
