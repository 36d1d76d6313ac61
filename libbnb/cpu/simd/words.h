// SPDX-License-Identifier: MIT
// The vector vocabulary: what every cpu/simd/<isa>.h gives to the kernels, and the parts that are the same for all.
//
// Kernels include it with `#include BNB_SIMD_HEADER`. Everything lives in an unnamed namespace inside bnb::cpu::BNB_ISA and is
// always inlined (formats/portable.h says why).
//
//   Floats, Ints, Mask        kLanes fp32 numbers, 32-bit integers, truth values
//   splat(x)                  Floats;  splat_int(i), splat_bits(u): Ints
//   iota_int()                0, 1, 2 ...
//
// Memory: any address. (Scalars: bnb::load<float> and bnb::store<float> of core/dtype.h, spelled out, as these words hide them.)
// `_some` takes the first `count` lanes only, 0 <= count <= kLanes, touches no byte behind them, and
// gives zero for the others.
//   load<Tag>(p)              F32, F16 or BF16 in memory -> Floats;  load_some<Tag>(p, count)
//   store<Tag>(p, x)          Floats -> memory, to nearest even;  store_some<Tag>(p, x, count)
//   load_int32(p), load_int8(p), load_uint8(p)      -> Ints, sign- or zero-extended;  ..._some(p, count)
//   store_int32(p, v)
//   store_int8(p, v)          saturates to -128 .. 127;  store_uint8(p, v): v is 0 .. 255;  ..._some(p, v, count)
//   gather(table, index)      fp32 entries;  gather_bits: 32-bit integers
//
// Arithmetic, IEEE, one rounding each:
//   add sub mul div (a, b)    fma(a, b, c) = a * b + c    sqrt(x)    abs(x)    copy_sign(magnitude, sign)
//   min(a, b), max(a, b)      neither may be NaN
//   round_int(x)              to nearest even -> Ints (x in int32's range);  to_float(v): signed Ints -> Floats
//   bits(x), from_bits(v)     the same bits seen as the other type
// Integers, modulo 2^32:
//   add_int sub_int and_int or_int xor_int (a, b)    and_not(a, b) = a & ~b
//   select_bits(mask, a, b)   the bits of a where mask has ones, else those of b
//   max_uint(a, b), min_uint(a, b)    shift_left<N>(v), shift_right<N>(v): zeros come in
//   reduce_max_uint(v)        the largest lane, as uint32_t
//
// Masks: greater greater_equal equal (a, b) of Floats, false for NaN; is_nan(x); greater_int(a, b) signed, equal_int(a, b);
//   both(m, n)  either(m, n)  but_not(m, n) = m and not n   any(m)   mask_bits(m): lane i is bit i
//   select(m, a, b)           a where m, else b;  select_int for Ints
//   first_lanes(count)        true in the first `count` lanes
//
// 16-bit lanes, kHalfLanes of them: Halves; load_halves(p), load_halves_some(p, count), splat_halves(u), and_halves(a, b),
//   max_halves(a, b) unsigned, reduce_max_halves(v) -> uint32_t
//
// 16-bit lanes, kLanes of them: Shorts; load_int8_shorts(p) sign-extended, load_int8_shorts_some(p, count), splat_shorts(u),
//   and_shorts or_shorts equal_shorts (a, b): all ones where equal; shift_left_shorts<N>(v)
//   widen_fp16(v)             the lanes as binary16 -> Floats
//
// 8-bit lanes, 4 * kLanes of them: Bytes; pack_int8(a, b, c, d), pack_uint8(a, b, c, d): Ints in range -> Bytes in this order
//   store_bytes(p, v)
//
// Nibbles, 16 codes with the first one in the high half of a byte:
//   make_nibble_coder(thresholds, codes)    15 ascending fp32 thresholds (as bits), the code of each of the 16 ranks
//   encode_nibbles(coder, x, out)           Floats x[4] -> 2 * kLanes bytes; rank = how many thresholds are strictly below
//   encode_nibbles_some(coder, x, out, count)    the first `count` codes: (count + 1) / 2 bytes
//   make_nibble_table<Tag>(codebook, scale)    16 products, each rounded once to the output dtype
//   expand_nibbles(table, p, out)           table.kCount codes -> as many values, in memory;
//   expand_nibbles_some(table, p, out, count)
//
// Streaming: stream_line(p, from) copies 64 bytes past the caches, p aligned to 64; stream_fence() once behind the last of
//   them. kStreams: whether this gains anything here.
#ifndef BNB_CPU_SIMD_WORDS_H_
#define BNB_CPU_SIMD_WORDS_H_

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kLineBytes = 64;

// A search among 15 thresholds in four steps leaves a path: bit i is the outcome of step i. The rank has these bits reversed.
constexpr int rank_of_path(int path) { return (path & 1) << 3 | (path & 2) << 1 | (path & 4) >> 1 | (path & 8) >> 3; }

// The thresholds that the four steps compare with, each indexed by the path so far.
struct SearchSteps {
  float first, second[2], third[4], fourth[8];
  uint8_t code_of_path[16];
};
BNB_INLINE SearchSteps make_search_steps(const uint32_t *thresholds, const uint8_t *codes) {
  SearchSteps steps;
  const auto threshold = [&](int i) { return formats::float_from_bits(thresholds[i]); };
  steps.first = threshold(7);
  for (int path = 0; path < 2; ++path) steps.second[path] = threshold(rank_of_path(path) + 3);
  for (int path = 0; path < 4; ++path) steps.third[path] = threshold(rank_of_path(path) + 1);
  for (int path = 0; path < 8; ++path) steps.fourth[path] = threshold(rank_of_path(path));
  for (int path = 0; path < 16; ++path) steps.code_of_path[path] = codes[rank_of_path(path)];
  return steps;
}

// The first bytes of an array that may end there, followed by zeros.
template <int kBytes>
struct alignas(kBytes) Padded {
  unsigned char bytes[kBytes];
  BNB_INLINE Padded(const void *p, int64_t count) {
    std::memset(bytes, 0, sizeof bytes);
    std::memcpy(bytes, p, size_t(count));
  }
  BNB_INLINE Padded() {}
  BNB_INLINE void copy_to(void *p, int64_t count) const { std::memcpy(p, bytes, size_t(count)); }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_WORDS_H_
