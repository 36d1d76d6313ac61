// SPDX-License-Identifier: MIT
// OCP microscaling (MX specification 1.0) and NVFP4: block sizes, scales that are powers of two (E8M0) and how they are
// chosen.
#ifndef BNB_FORMATS_MX_H_
#define BNB_FORMATS_MX_H_

#include "formats/e2m1.h"
#include "formats/fp8.h"

namespace bnb {
namespace formats {

namespace e8m0 {

enum : uint8_t { kNanCode = 0xFF };

// 2^(code - 127). Code 0 is subnormal in fp32.
BNB_FN BNB_CONSTEXPR float decode(uint8_t code) {
  if (code == kNanCode) return float_from_bits(0x7FC00000u);
  return float_from_bits(code == 0 ? 0x00400000u : uint32_t(code) << 23);
}

// 1 / decode(code), a number of fp32 for every code below 254. Rules give no other: absmax is below 2^128, and 4 is among
// the values of every element.
BNB_FN BNB_CONSTEXPR float reciprocal(uint8_t code) { return float_from_bits(uint32_t(254 - code) << 23); }

}  // namespace e8m0

namespace mx {

enum : int { kBlock = 32, kNvfp4Block = 16 };

// Rules as bnb_mx_scale numbers them.
enum Rule : int { kFloor = 0, kCeil = 1, kEven = 2, kRceil = 3 };

// What rules take from an element format: the exponent of its largest power of two.
template <typename Element>
BNB_FN BNB_CONSTEXPR uint32_t largest_exponent() {
  return (bits_from_float(Element::max_finite()) >> 23) - 127;
}

// Added to the bits of absmax, this moves its exponent as the rule wants. kRceil: to those of absmax / largest value.
template <typename Element>
BNB_FN BNB_CONSTEXPR uint32_t rounding(int rule) {
  return rule == kFloor ? 0u : rule == kEven ? 1u << (22 - Element::kMantissaBits) : 0x007FFFFFu;
}

// The E8M0 code of a block's scale. absmax is finite.
template <typename Element>
BNB_FN BNB_CONSTEXPR uint8_t scale_code(int rule, float absmax) {
  const uint32_t kLargest = largest_exponent<Element>();
  if (rule == kRceil) {
    const uint32_t quotient = bits_from_float(absmax / Element::max_finite());
    if (quotient <= bits_from_float(e8m0::decode(0))) return 0;
    return uint8_t((quotient + rounding<Element>(rule)) >> 23);
  }
  const uint32_t exponent = (bits_from_float(absmax) + rounding<Element>(rule)) >> 23;
  return uint8_t(exponent > kLargest ? exponent - kLargest : 0);
}

}  // namespace mx

namespace nvfp4 {

// Scales of blocks are E4M3FN numbers from the smallest normal one, 2^-6, on.
enum : uint8_t { kSmallestScale = 0x08 };

BNB_FN BNB_CONSTEXPR float smallest_scale() { return 0.015625f; }

// What absmax of the tensor is divided by: the largest scale times the largest element.
BNB_FN BNB_CONSTEXPR float tensor_divisor() { return fp8::E4M3FN::max_finite() * E2M1::max_finite(); }

// The E4M3FN code of a block's scale. absmax is finite; tensor_scale above 0 and finite.
BNB_FN BNB_CONSTEXPR uint8_t scale_code(float absmax, float tensor_scale) {
  const float scale = absmax / E2M1::max_finite() / tensor_scale;
  return scale < smallest_scale() ? uint8_t(kSmallestScale) : fp8::encode<fp8::E4M3FN>(scale);
}

}  // namespace nvfp4
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_MX_H_
