// SPDX-License-Identifier: MIT
// IEEE binary64 in integers, for the sums that bnb.h defines in it: Metal has no such type. A number is its bits in a ulong. Every result
// is that of IEEE arithmetic, rounded to nearest even; a NaN is always the same one.
#ifndef BNB_METAL_KERNELS_FLOAT64_H_
#define BNB_METAL_KERNELS_FLOAT64_H_

#include "metal/kernels/common.h"

namespace bnb {
namespace kernels {

typedef ulong Float64;

inline Float64 f64_nan() { return ulong(0x7FF8) << 48; }
inline Float64 f64_infinity() { return ulong(0x7FF0) << 48; }
inline Float64 f64_sign() { return ulong(1) << 63; }
inline Float64 f64_one() { return ulong(1023) << 52; }
inline Float64 f64_magnitude(Float64 x) { return x & ~f64_sign(); }
inline bool f64_is_nan(Float64 x) { return f64_magnitude(x) > f64_infinity(); }

// A finite number above zero: fraction * 2^(exponent - 1075), the fraction's highest bit being bit 52.
struct Unpacked64 {
  ulong fraction;
  int exponent;
};
inline Unpacked64 f64_unpack(Float64 magnitude) {
  Unpacked64 number = {magnitude & ((ulong(1) << 52) - 1), int(magnitude >> 52)};
  if (number.exponent == 0) {
    const int shift = leading_zeros(number.fraction) - 11;
    number.fraction <<= uint(shift);
    number.exponent = 1 - shift;
  } else {
    number.fraction |= ulong(1) << 52;
  }
  return number;
}

// wide * 2^(exponent - 1085), rounded. Bit 62 of `wide` is its highest; bit 0 may stand for all that is below it.
inline Float64 f64_pack(Float64 sign, int exponent, ulong wide) {
  if (exponent >= 2047) return sign | f64_infinity();
  const int shift = exponent > 0 ? 10 : 11 - exponent;
  if (shift > 63) return sign;
  const ulong rest = wide & ((ulong(1) << uint(shift)) - 1), half_way = ulong(1) << uint(shift - 1);
  ulong kept = wide >> uint(shift);
  if (rest > half_way || (rest == half_way && (kept & 1) != 0)) ++kept;
  return sign | ((exponent > 0 ? ulong(exponent - 1) << 52 : ulong(0)) + kept);
}
// The same for any `wide` but 0.
inline Float64 f64_pack_any(Float64 sign, int exponent, ulong wide) {
  if ((wide >> 63) != 0) return f64_pack(sign, exponent + 1, (wide >> 1) | (wide & 1));
  const int shift = leading_zeros(wide) - 1;
  return f64_pack(sign, exponent - shift, wide << uint(shift));
}

inline Float64 f64_from_float(float x) {
  const uint bits = bits_from_float(x), magnitude = bits & ~uint(kSignBit);
  const Float64 sign = ulong(bits & uint(kSignBit)) << 32;
  if (magnitude > kInfinityBits) return f64_nan();
  if (magnitude == kInfinityBits) return sign | f64_infinity();
  if (magnitude >= 0x00800000u) return sign | ((ulong(magnitude) << 29) + (ulong(896) << 52));
  return magnitude == 0 ? sign : f64_pack_any(sign, 1085 - 149, ulong(magnitude));
}

inline Float64 f64_from_long(long x) {
  if (x == 0) return 0;
  return x < 0 ? f64_pack_any(f64_sign(), 1085, ulong(0) - ulong(x)) : f64_pack_any(0, 1085, ulong(x));
}

inline float f64_to_float(Float64 x) {
  const Float64 magnitude = f64_magnitude(x);
  const uint sign = uint(x >> 32) & uint(kSignBit);
  if (magnitude > f64_infinity()) return float_from_bits(kNanBits);
  if (magnitude == f64_infinity()) return float_from_bits(sign | uint(kInfinityBits));
  if (magnitude < (ulong(1) << 52)) return float_from_bits(sign);
  const int exponent = int(magnitude >> 52) - 896;
  if (exponent >= 255) return float_from_bits(sign | uint(kInfinityBits));
  const int shift = exponent > 0 ? 29 : 30 - exponent;
  if (shift > 54) return float_from_bits(sign);
  const ulong fraction = (magnitude & ((ulong(1) << 52) - 1)) | (ulong(1) << 52);
  const ulong rest = fraction & ((ulong(1) << uint(shift)) - 1), half_way = ulong(1) << uint(shift - 1);
  uint kept = uint(fraction >> uint(shift));
  if (rest > half_way || (rest == half_way && (kept & 1u) != 0)) ++kept;
  return float_from_bits(sign | ((exponent > 0 ? uint(exponent - 1) << 23 : 0u) + kept));
}

// No copy of it for each call: it is long.
__attribute__((noinline)) inline Float64 f64_add(Float64 a, Float64 b) {
  const bool swap = f64_magnitude(a) < f64_magnitude(b);
  const Float64 large = swap ? b : a, small = swap ? a : b, u = f64_magnitude(large), v = f64_magnitude(small);
  if (u > f64_infinity()) return f64_nan();
  if (u == f64_infinity()) return u == v && large != small ? f64_nan() : large;
  if (v == 0) return u == 0 ? large & small : large;
  const Unpacked64 p = f64_unpack(u), q = f64_unpack(v);
  const int apart = p.exponent - q.exponent;
  const ulong first = p.fraction << 9;  // nine bits below, so that what is shifted out of them can be one
  ulong second = q.fraction << 9;
  if (apart > 62) {
    second = 1;
  } else if (apart > 0) {
    second = (second >> uint(apart)) | ((second & ((ulong(1) << uint(apart)) - 1)) != 0 ? 1 : 0);
  }
  const bool same = (large & f64_sign()) == (small & f64_sign());
  const ulong sum = same ? first + second : first - second;
  return sum == 0 ? 0 : f64_pack_any(large & f64_sign(), p.exponent + 1, sum);
}
inline Float64 f64_subtract(Float64 a, Float64 b) { return f64_add(a, b ^ f64_sign()); }

// a + b of numbers that have no sign, as sums of squares and of magnitudes have them: a third of the work where both are normal.
inline Float64 f64_add_positive(Float64 a, Float64 b) {
  const Float64 large = a < b ? b : a, small = a < b ? a : b;
  const uint exponent = uint(large >> 52), exponent_small = uint(small >> 52), apart = exponent - exponent_small;
  if (exponent_small == 0 || exponent >= 2046) return small == 0 ? large : f64_add(a, b);
  if (apart >= 54) return large;  // less than half of its last bit
  const ulong mask = (ulong(1) << 52) - 1, one = ulong(1) << 52;
  const ulong second = ((small & mask) | one) << 10, shifted = second >> apart;
  ulong sum = (((large & mask) | one) << 10) + (shifted | ((shifted << apart) != second ? 1 : 0));
  const uint carry = uint(sum >> 63);
  sum = (sum >> carry) | (sum & carry);
  const ulong kept = (sum + 0x1FF + ((sum >> 10) & 1)) >> 10;  // half way: to even
  return (ulong(exponent + carry - 1) << 52) + kept;
}

// x * y of two numbers of fp32: exact.
inline Float64 f64_product(float x, float y) {
  const Float64 a = f64_from_float(x), b = f64_from_float(y), sign = (a ^ b) & f64_sign(), u = f64_magnitude(a), v = f64_magnitude(b);
  if (u > f64_infinity() || v > f64_infinity()) return f64_nan();
  if (u == f64_infinity() || v == f64_infinity()) return u == 0 || v == 0 ? f64_nan() : sign | f64_infinity();
  if (u == 0 || v == 0) return sign;
  const Unpacked64 p = f64_unpack(u), q = f64_unpack(v);
  return f64_pack_any(sign, p.exponent + q.exponent - 1007, (p.fraction >> 29) * (q.fraction >> 29));
}

// No copy of it for each call, either.
__attribute__((noinline)) inline Float64 f64_multiply(Float64 a, Float64 b) {
  const Float64 sign = (a ^ b) & f64_sign(), u = f64_magnitude(a), v = f64_magnitude(b);
  if (u > f64_infinity() || v > f64_infinity()) return f64_nan();
  if (u == f64_infinity() || v == f64_infinity()) return u == 0 || v == 0 ? f64_nan() : sign | f64_infinity();
  if (u == 0 || v == 0) return sign;
  const Unpacked64 p = f64_unpack(u), q = f64_unpack(v);
  const ulong x = p.fraction << 11, y = q.fraction << 10, mask = 0xFFFFFFFFu;
  const ulong low = (x & mask) * (y & mask), middle = (x >> 32) * (y & mask) + (low >> 32);
  const ulong other = (x & mask) * (y >> 32) + (middle & mask);
  const ulong high = (x >> 32) * (y >> 32) + (middle >> 32) + (other >> 32);  // the upper half of 128 bits
  const bool rest = ((other | low) & mask) != 0;
  return f64_pack_any(sign, p.exponent + q.exponent - 1022, high | (rest ? 1 : 0));
}

// x * x of a number of fp32: exact.
inline Float64 f64_square(float x) {
  const uint magnitude = bits_from_float(x) & ~uint(kSignBit), exponent = magnitude >> 23;
  if (exponent - 1u >= 254u) return magnitude == 0 ? 0 : f64_product(x, x);
  const uint fraction = (magnitude & 0x007FFFFFu) | 0x00800000u;
  const ulong square = ulong(fraction) * fraction;  // its highest bit is 46 or 47
  const uint large = uint(square >> 47);
  return (ulong(2 * exponent + 768 + large) << 52) + (square << (6 - large));
}

inline Float64 f64_divide(Float64 a, Float64 b) {
  const Float64 sign = (a ^ b) & f64_sign(), u = f64_magnitude(a), v = f64_magnitude(b);
  if (u > f64_infinity() || v > f64_infinity()) return f64_nan();
  if (u == v && (u == 0 || u == f64_infinity())) return f64_nan();
  if (u == 0 || v == f64_infinity()) return sign;
  if (v == 0 || u == f64_infinity()) return sign | f64_infinity();
  const Unpacked64 p = f64_unpack(u), q = f64_unpack(v);
  ulong rest = p.fraction, ratio = 0;  // digit by digit
  for (int i = 0; i < 62; ++i) {
    const bool fits = rest >= q.fraction;
    ratio = (ratio << 1) | (fits ? 1 : 0);
    rest = (fits ? rest - q.fraction : rest) << 1;
  }
  return f64_pack_any(sign, p.exponent - q.exponent + 1023 + 1, ratio | (rest != 0 ? 1 : 0));
}

inline Float64 f64_square_root(Float64 x) {
  const Float64 magnitude = f64_magnitude(x);
  if (magnitude > f64_infinity() || (x != magnitude && magnitude != 0)) return f64_nan();
  if (magnitude == 0 || magnitude == f64_infinity()) return x;
  const Unpacked64 p = f64_unpack(magnitude);
  const bool odd = ((p.exponent - 1075) & 1) != 0;  // of the power of two beside the fraction
  const ulong fraction = odd ? p.fraction << 1 : p.fraction;
  const int power = (p.exponent - 1075 - (odd ? 1 : 0)) / 2;  // exact: it is even
  ulong root = 0, rest = 0;  // 27 digits for the fraction's 54 bits, then 29 for zeros
  for (int i = 0; i < 56; ++i) {
    rest = (rest << 2) | (i < 27 ? (fraction >> uint(52 - 2 * i)) & 3 : ulong(0));
    const ulong trial = (root << 2) | 1;
    const bool fits = rest >= trial;
    if (fits) rest -= trial;
    root = (root << 1) | (fits ? 1 : 0);
  }
  return f64_pack_any(0, power - 30 + 1085, (root << 1) | (rest != 0 ? 1 : 0));
}

// Whether a < b; false for NaN.
inline bool f64_less(Float64 a, Float64 b) {
  if (f64_is_nan(a) || f64_is_nan(b)) return false;
  const long p = a == f64_magnitude(a) ? long(a) : -long(f64_magnitude(a)), q = b == f64_magnitude(b) ? long(b) : -long(f64_magnitude(b));
  return p < q;
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_FLOAT64_H_
