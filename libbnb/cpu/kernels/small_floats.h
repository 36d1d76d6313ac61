// SPDX-License-Identifier: MIT
// Floats of 4 and 8 bits (formats/e2m1.h, formats/fp8.h) in vectors: their codes and their values.
#ifndef BNB_CPU_KERNELS_SMALL_FLOATS_H_
#define BNB_CPU_KERNELS_SMALL_FLOATS_H_

#include BNB_SIMD_HEADER
#include "formats/e2m1.h"
#include "formats/fp8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

using formats::E2M1;
using formats::fp8::E4M3FN;
using formats::fp8::E5M2;

// The codes of magnitudes that no rounding takes beyond the largest finite value with signs, one per lane.
//
// A magnitude with exponent E plus 2^(E + 23 - m) is rounded to m mantissa bits, ties to even, by the addition: the
// sum's lowest bits are then the rounded mantissa with its leading one, and its highest bits are E. Code and exponent
// grow together, so their sum is the code but for a constant, which is even and so may ride in the aligner. Below the
// smallest normal exponent steps stay as they are: E stops there.
template <typename Format>
BNB_INLINE Ints encode_magnitude(Floats magnitude, Floats sign) {
  constexpr int kMantissaBits = Format::kMantissaBits, kDropped = 23 - kMantissaBits, kSignShift = 32 - Format::kBits;
  constexpr uint32_t kSmallestExponent = uint32_t(128 - Format::kBias) << 23, kSign = 1u << (Format::kBits - 1);
  constexpr uint32_t kOffset = uint32_t(Format::kBias - 1 - 127 - kDropped) << kMantissaBits;
  static_assert(kOffset % 2 == 0, "ties would go to the odd code");
  const Ints exponent = max_uint(and_int(bits(magnitude), splat_bits(0x7F800000u)), splat_bits(kSmallestExponent));
  const Ints aligner = add_int(exponent, splat_bits((uint32_t(kDropped) << 23) + (kOffset & 0xFFu)));
  const Ints sum = bits(add(magnitude, from_bits(aligner)));
  return select_bits(splat_bits(kSign - 1), add_int(sum, shift_right<kDropped>(sum)),
                     shift_right<kSignShift>(bits(sign)));
}
template <typename Format>
BNB_INLINE Ints encode_in_range(Floats x) {
  return encode_magnitude<Format>(abs(x), x);
}

// The codes of any numbers, saturating. Those of NaN mean nothing.
template <typename Format>
BNB_INLINE Ints encode_saturating(Floats x) {
  return encode_magnitude<Format>(min(abs(x), splat(Format::max_finite())), x);
}

// The values of codes in the lowest bits of 16-bit lanes. E5M2 is the upper half of a binary16.
BNB_INLINE Floats decode(E5M2, Shorts codes) { return widen_fp16(shift_left_shorts<8>(codes)); }

// E4M3 with its bits in the place of a binary16's is too small by the difference of the two exponent biases. The codes
// are sign-extended.
BNB_INLINE Floats decode(E4M3FN, Shorts codes) {
  const Shorts half = and_shorts(shift_left_shorts<7>(codes), splat_shorts(0xBFFF));
  const Shorts nan = equal_shorts(and_shorts(half, splat_shorts(0x3F80)), splat_shorts(0x3F80));
  return mul(widen_fp16(or_shorts(half, nan)), splat(256.0f));
}

// E2M1 likewise. What is above the codes may be anything.
BNB_INLINE Floats decode(E2M1, Shorts codes) {
  const Shorts magnitude = and_shorts(shift_left_shorts<9>(codes), splat_shorts(0x0E00));
  const Shorts sign = and_shorts(shift_left_shorts<12>(codes), splat_shorts(0x8000));
  return mul(widen_fp16(or_shorts(magnitude, sign)), splat(16384.0f));
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_SMALL_FLOATS_H_
