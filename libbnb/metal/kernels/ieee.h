// SPDX-License-Identifier: MIT
// IEEE fp32 with its subnormal numbers. Metal may take them for zero, as operands and as results, and Apple's GPUs are said to do so. Where
// the operation of the GPU gives a number that none of this can have touched, that is the result; else it is worked out in integers.
#ifndef BNB_METAL_KERNELS_IEEE_H_
#define BNB_METAL_KERNELS_IEEE_H_

#include "metal/kernels/common.h"

namespace bnb {
namespace kernels {
namespace ieee {

// A finite number above zero: fraction * 2^(exponent - 150), the fraction's highest bit being bit 23.
struct Unpacked {
  uint fraction;
  int exponent;
};
inline Unpacked unpack(uint magnitude) {
  Unpacked number = {magnitude & 0x007FFFFFu, int(magnitude >> 23)};
  if (number.exponent == 0) {
    const int shift = int(clz(number.fraction)) - 8;
    number.fraction <<= uint(shift);
    number.exponent = 1 - shift;
  } else {
    number.fraction |= 0x00800000u;
  }
  return number;
}

// wide * 2^(exponent - 189), rounded. Bit 62 of `wide` is its highest; bit 0 may stand for all that is below it.
inline float pack(uint sign, int exponent, ulong wide) {
  if (exponent >= 255) return float_from_bits(sign | kInfinityBits);
  const int shift = exponent > 0 ? 39 : 40 - exponent;
  if (shift > 63) return float_from_bits(sign);
  const ulong rest = wide & ((ulong(1) << uint(shift)) - 1), half_way = ulong(1) << uint(shift - 1);
  uint kept = uint(wide >> uint(shift));
  if (rest > half_way || (rest == half_way && (kept & 1u) != 0)) ++kept;
  return float_from_bits(sign | ((exponent > 0 ? uint(exponent - 1) << 23 : 0u) + kept));
}

__attribute__((noinline)) inline float multiply_slowly(float a, float b) {
  const uint x = bits_from_float(a), y = bits_from_float(b), sign = (x ^ y) & kSignBit;
  const uint u = x & ~uint(kSignBit), v = y & ~uint(kSignBit);
  if (u > kInfinityBits || v > kInfinityBits) return float_from_bits(kNanBits);
  if (u == kInfinityBits || v == kInfinityBits) return float_from_bits(u == 0 || v == 0 ? uint(kNanBits) : sign | kInfinityBits);
  if (u == 0 || v == 0) return float_from_bits(sign);
  const Unpacked p = unpack(u), q = unpack(v);
  const ulong product = ulong(p.fraction) * ulong(q.fraction);  // its highest bit is 46 or 47
  const bool large = (product >> 47) != 0;
  return pack(sign, p.exponent + q.exponent - 127 + (large ? 1 : 0), product << (large ? 15u : 16u));
}

__attribute__((noinline)) inline float divide_slowly(float a, float b) {
  const uint x = bits_from_float(a), y = bits_from_float(b), sign = (x ^ y) & kSignBit;
  const uint u = x & ~uint(kSignBit), v = y & ~uint(kSignBit);
  if (u > kInfinityBits || v > kInfinityBits) return float_from_bits(kNanBits);
  if (u == v && (u == 0 || u == kInfinityBits)) return float_from_bits(kNanBits);
  if (u == 0 || v == kInfinityBits) return float_from_bits(sign);
  if (v == 0 || u == kInfinityBits) return float_from_bits(sign | kInfinityBits);
  const Unpacked p = unpack(u), q = unpack(v);
  const ulong dividend = ulong(p.fraction) << 38, divisor = ulong(q.fraction);
  const ulong quotient = dividend / divisor;  // its highest bit is 37 or 38
  const bool large = (quotient >> 38) != 0, exact = quotient * divisor == dividend;
  return pack(sign, p.exponent - q.exponent + (large ? 127 : 126), (quotient << (large ? 24u : 25u)) | (exact ? 0u : 1u));
}

// For a sum below 2^-100, or so it seems.
__attribute__((noinline)) inline float add_slowly(float a, float b, float sum) {
  const uint x = bits_from_float(a), y = bits_from_float(b), u = x & ~uint(kSignBit), v = y & ~uint(kSignBit);
  enum : uint { kLarge = 39u << 23 };
  if (u >= kLarge || v >= kLarge) return sum;  // the difference of neighbours: exact, and zero or no subnormal number
  if (u == 0 && v == 0) return float_from_bits(x & y);
  const uint first = u >> 23, second = v >> 23;
  const ulong p = first == 0 ? ulong(u) : ulong((u & 0x007FFFFFu) | 0x00800000u) << (first - 1);
  const ulong q = second == 0 ? ulong(v) : ulong((v & 0x007FFFFFu) | 0x00800000u) << (second - 1);
  const long total = (x == u ? long(p) : -long(p)) + (y == v ? long(q) : -long(q));  // in units of 2^-149
  const uint sign = total < 0 ? uint(kSignBit) : 0u;
  const ulong magnitude = total < 0 ? ulong(-total) : ulong(total);
  if (magnitude < (ulong(1) << 24)) return float_from_bits(sign | uint(magnitude));
  const int shift = leading_zeros(magnitude) - 1;
  return pack(sign, 63 - 23 - shift, magnitude << uint(shift));
}

__attribute__((noinline)) inline float square_root_slowly(float x) {
  const uint bits = bits_from_float(x);
  if (bits >= 0x00800000u) return float_from_bits(bits == kInfinityBits ? uint(kInfinityBits) : uint(kNanBits));
  return precise::sqrt(float(bits * 2u)) * 2.6469779601696886e-23f;  // x = bits * 2^-149; 2^-75
}

// The exact a * b + c, rounded once.
__attribute__((noinline)) inline float multiply_add_slowly(float a, float b, float c) {
  const uint x = bits_from_float(a), y = bits_from_float(b), z = bits_from_float(c), sign = (x ^ y) & kSignBit;
  const uint u = x & ~uint(kSignBit), v = y & ~uint(kSignBit), w = z & ~uint(kSignBit), sign_c = z & kSignBit;
  if (u > kInfinityBits || v > kInfinityBits || w > kInfinityBits) return float_from_bits(kNanBits);
  if (u == kInfinityBits || v == kInfinityBits) {
    const bool undefined = u == 0 || v == 0 || (w == kInfinityBits && sign != sign_c);
    return float_from_bits(undefined ? uint(kNanBits) : sign | kInfinityBits);
  }
  if (w == kInfinityBits) return c;
  if (u == 0 || v == 0) return w == 0 ? float_from_bits(sign & sign_c) : c;
  if (w == 0) return multiply_slowly(a, b);
  const Unpacked p = unpack(u), q = unpack(v), r = unpack(w);
  ulong product = ulong(p.fraction) * ulong(q.fraction) << 14, added = ulong(r.fraction) << 38;  // highest bits: 61, one perhaps 60
  int exponent = p.exponent + q.exponent - 314, exponent_c = r.exponent - 188;                   // of the units
  if ((product >> 61) == 0) {
    product <<= 1;
    --exponent;
  }
  const bool swap = exponent < exponent_c || (exponent == exponent_c && product < added);
  const ulong first = swap ? added : product;
  ulong second = swap ? product : added;
  const int apart = swap ? exponent_c - exponent : exponent - exponent_c;
  if (apart > 62) {
    second = 1;
  } else if (apart > 0) {  // what is shifted out becomes one bit; then at most one bit cancels
    second = (second >> uint(apart)) | ((second & ((ulong(1) << uint(apart)) - 1)) != 0 ? 1 : 0);
  }
  const ulong sum = sign == sign_c ? first + second : first - second;
  if (sum == 0) return 0.0f;
  const int shift = leading_zeros(sum) - 1;
  return pack(swap ? sign_c : sign, (swap ? exponent_c : exponent) + 189 - shift, sum << uint(shift));
}

inline bool is_normal(float x) { return (bits_from_float(x) & ~uint(kSignBit)) - 0x00800000u < 0x7F000000u; }
// The same, but also for infinity: a comparison is less work. A number taken for zero is none of these.
inline bool is_large(float x) { return fabs(x) >= 1.17549435e-38f; }
inline bool is_zero(float x) { return (bits_from_float(x) << 1) == 0; }

// Below kLeastSafe for subnormal numbers only; zero is the largest.
enum : uint { kLeastSafe = 0x00FFFFFFu };
inline uint safety(float x) { return (bits_from_float(x) << 1) - 1u; }

// A zero is met more often than a subnormal number, and needs no more than a second look.
inline float multiply(float a, float b) {
  const float product = a * b;
  if (is_large(product)) return product;  // if infinite, too: zero times infinity is NaN
  return is_zero(a) || is_zero(b) ? product : multiply_slowly(a, b);
}
inline float divide(float a, float b) {
  const float quotient = a / b;
  if (is_normal(quotient)) return quotient;
  return is_zero(a) && safety(b) >= kLeastSafe ? quotient : divide_slowly(a, b);
}
inline float add(float a, float b) {
  const float sum = a + b;
  return (bits_from_float(sum) & ~uint(kSignBit)) >= (27u << 23) ? sum : add_slowly(a, b, sum);
}
inline float multiply_add(float a, float b, float c) {
  const float sum = fma(a, b, c);
  if (is_large(sum) && min(min(safety(a), safety(b)), safety(c)) >= kLeastSafe) return sum;
  return (is_zero(a) || is_zero(b)) && is_zero(c) ? sum : multiply_add_slowly(a, b, c);
}
inline float subtract(float a, float b) { return add(a, float_from_bits(bits_from_float(b) ^ kSignBit)); }
inline float square_root(float x) {
  if (bits_from_float(x) - 0x00800000u < 0x7F000000u) return precise::sqrt(x);
  return is_zero(x) ? x : square_root_slowly(x);
}

}  // namespace ieee
}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_IEEE_H_
