// SPDX-License-Identifier: MIT
// The OCP 8-bit floats E4M3FN and E5M2 (OFP8 specification 1.0): exact decoding, and saturating round-to-nearest-even encoding.
#ifndef BNB_FORMATS_FP8_H_
#define BNB_FORMATS_FP8_H_

#include "formats/float16.h"

namespace bnb {
namespace formats {
namespace fp8 {

struct E4M3FN {
  enum : int { kBits = 8, kMantissaBits = 3, kBias = 7 };
  enum : uint8_t { kMaxCode = 0x7E, kNanCode = 0x7F };
  static BNB_FN BNB_CONSTEXPR float max_finite() { return 448.0f; }
};

struct E5M2 {
  enum : int { kBits = 8, kMantissaBits = 2, kBias = 15 };
  enum : uint8_t { kMaxCode = 0x7B, kNanCode = 0x7F };
  static BNB_FN BNB_CONSTEXPR float max_finite() { return 57344.0f; }
};

// Nearest code, ties to the even one; magnitudes above the largest finite value give that, NaN gives kNanCode without sign.
template <typename Format>
BNB_FN BNB_CONSTEXPR uint8_t encode(float x) {
  const uint32_t bits = bits_from_float(x);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const uint32_t sign = (bits >> 24) & 0x80u;
  if (magnitude > 0x7F800000u) return Format::kNanCode;
  if (magnitude >= bits_from_float(Format::max_finite())) return uint8_t(sign | Format::kMaxCode);
  constexpr uint32_t kDropped = 23 - Format::kMantissaBits;
  constexpr uint32_t kExponentShift = uint32_t(127 - Format::kBias) << 23;
  if (magnitude < kExponentShift + (1u << 23)) {
    // Subnormal in the target: adding a power of two whose ulp is the smallest subnormal rounds as wanted.
    const float kAligner = float_from_bits(uint32_t(127 - Format::kBias + 1 + int(kDropped)) << 23);
    return uint8_t(sign | (bits_from_float(float_from_bits(magnitude) + kAligner) - bits_from_float(kAligner)));
  }
  const uint32_t rounded = magnitude + ((1u << (kDropped - 1)) - 1) + ((magnitude >> kDropped) & 1u);
  return uint8_t(sign | ((rounded - kExponentShift) >> kDropped));
}

template <typename Format>
BNB_FN BNB_CONSTEXPR float decode(uint8_t code);

template <>
BNB_FN BNB_CONSTEXPR float decode<E5M2>(uint8_t code) {  // the upper half of a binary16
  return float_from_fp16(uint16_t(uint16_t(code) << 8));
}

template <>
BNB_FN BNB_CONSTEXPR float decode<E4M3FN>(uint8_t code) {
  const uint32_t sign = uint32_t(code & 0x80u) << 24;
  const uint32_t magnitude = code & 0x7Fu;
  if (magnitude == E4M3FN::kNanCode) return float_from_bits(sign | 0x7FC00000u);
  if (magnitude < 8) return float_from_bits(sign | bits_from_float(float(magnitude) * 0.001953125f));  // 2^-9
  return float_from_bits(sign | ((magnitude << 20) + (uint32_t(127 - E4M3FN::kBias) << 23)));
}

}  // namespace fp8
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_FP8_H_
