// SPDX-License-Identifier: MIT
// absmax[b] = max |a - subtract| / divisor over block b. EXACT.
//
// Without their sign, floats are ordered as their bits are, and NaN lies above infinity: an integer maximum in any order gives the
// exact result. 16-bit floats are compared as they are and widened once.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Bits of the largest magnitude of p[0, count), or of some NaN.
template <typename Tag>
BNB_INLINE uint32_t largest_float(const void *p, int64_t count, Floats subtract) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const char *bytes = static_cast<const char *>(p);
  const Ints mask = splat_bits(kMagnitudeBits);
  const auto magnitude = [&](int64_t i) { return and_int(bits(sub(load<Tag>(bytes + i * kSize), subtract)), mask); };
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
    const Floats x = sub(load_some<Tag>(bytes + i * kSize, count - i), subtract);
    m1 = max_uint(m1, select_int(first_lanes(count - i), and_int(bits(x), mask), splat_int(0)));
  }
  return reduce_max_uint(max_uint(max_uint(m0, m1), max_uint(m2, m3)));
}

// The same for 16-bit floats, as 16 bits.
BNB_INLINE uint32_t largest_half(const void *p, int64_t count) {
  const char *bytes = static_cast<const char *>(p);
  const Halves mask = splat_halves(0x7FFF);
  const auto magnitude = [&](int64_t i) { return and_halves(load_halves(bytes + i * 2), mask); };
  Halves m0 = splat_halves(0), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * kHalfLanes <= count; i += 2 * kHalfLanes) {
    m0 = max_halves(m0, magnitude(i));
    m1 = max_halves(m1, magnitude(i + kHalfLanes));
  }
  for (; i + kHalfLanes <= count; i += kHalfLanes) m0 = max_halves(m0, magnitude(i));
  if (i < count) m1 = max_halves(m1, and_halves(load_halves_some(bytes + i * 2, count - i), mask));
  return reduce_max_halves(max_halves(m0, m1));
}

template <typename Tag>
BNB_INLINE uint32_t largest(const void *p, int64_t count, float subtract) {
  if constexpr (sizeof(typename Tag::Storage) == 2) {
    if (subtract == 0.0f) return formats::bits_from_float(Tag::widen(uint16_t(largest_half(p, count))));
  }
  return largest_float<Tag>(p, count, splat(subtract));
}

}  // namespace

void absmax(const AbsmaxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    const char *a = static_cast<const char *>(args.a);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args.blocksize;
      const int64_t count = args.n - first < args.blocksize ? args.n - first : args.blocksize;
      uint32_t bits = largest<Tag>(a + first * int64_t(sizeof(typename Tag::Storage)), count, args.subtract);
      if (bits > kInfinityBits) bits = kNanBits;
      bnb::store<float>(args.absmax, block, formats::float_from_bits(bits) / args.divisor);
    }
  });
}

}  // namespace bnb::cpu::BNB_ISA
