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
//   add_int_where(m, a, b) = m ? a + b : a    sub_or_zero(a, b) = a > b ? a - b : 0, where the low halves of b are zeros and
//   those of the result are anything if a < b
//   max_uint(a, b), min_uint(a, b)    shift_left<N>(v), shift_right<N>(v): zeros come in    shift_right_where<N>(m, v)
//   reduce_max_uint(v)        the largest lane, as uint32_t;  reduce_max_uint(a, b, c, d, out): those of four, to out[4]
//
// Masks: greater greater_equal equal (a, b) of Floats, false for NaN; is_nan(x); greater_int(a, b) signed, greater_uint(a, b),
//   equal_int(a, b)
//   both(m, n)  either(m, n)  but_not(m, n) = m and not n   any(m)   mask_bits(m): lane i is bit i
//   select(m, a, b)           a where m, else b;  select_int for Ints
//   first_lanes(count)        true in the first `count` lanes
//
// 16-bit lanes, kHalfLanes of them: Halves; load_halves(p), load_halves_some(p, count), splat_halves(u), and_halves(a, b),
//   max_halves(a, b) unsigned
//   fold_halves(v)            kHalfLanes numbers -> as many or half as many Ints, by taking the larger one of two
//
// 16-bit lanes, kLanes of them: Shorts; load_int8_shorts(p) sign-extended, load_int8_shorts_some(p, count), splat_shorts(u),
//   and_shorts or_shorts equal_shorts (a, b): all ones where equal; shift_left_shorts<N>(v),
//   shift_left_shorts_by(v, count)
//   widen_fp16(v)             the lanes as binary16 -> Floats
//   load_nibble_shorts(p)     kLanes codes of 4 bits, the first in the low half of a byte, in the lowest bits of lanes whose other
//                             bits may be anything
//
// 8-bit lanes, 4 * kLanes of them: Bytes; pack_int8(a, b, c, d), pack_uint8(a, b, c, d): Ints in range -> Bytes in this order
//   store_bytes(p, v)
//   store_nibbles(p, v)       bytes of 0 .. 15 -> half as many bytes, the first of two in the low half
//
// Nibbles, 16 codes with the first one in the high half of a byte:
//   make_nibble_plan(format)                constexpr, of a NibbleFormat (see below) -> NibblePlan;  make_nibble_coder(plan)
//   encode_nibbles(coder, x, out)           Floats x[4], not NaN, |x| at most a few ulp above 1 -> 2 * kLanes bytes
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

// A number's rank says how many thresholds are strictly below it.
struct NibbleFormat {
  uint32_t thresholds[15];  // fp32 bits, ascending; no two in one interval of 1/15 around a multiple of that ...
  uint8_t codes[16];        // by rank
  bool by_magnitude;        // ... or else a sign and a magnitude, where thresholds[8 .. 14] are such and lie above zero:
                            // thresholds[7] parts the signs, code 8 | c is that of -x if c is that of x
};

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
