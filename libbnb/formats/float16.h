// SPDX-License-Identifier: MIT
// IEEE binary16 and bfloat16 as bit patterns: exact widening, and narrowing by round to nearest even.
#ifndef BNB_FORMATS_FLOAT16_H_
#define BNB_FORMATS_FLOAT16_H_

#include "formats/portable.h"

namespace bnb {
namespace formats {

BNB_FN BNB_CONSTEXPR float float_from_bf16(uint16_t h) { return float_from_bits(uint32_t(h) << 16); }

// NaN keeps its sign and the upper part of its payload, and becomes quiet.
BNB_FN BNB_CONSTEXPR uint16_t bf16_from_float(float f) {
  const uint32_t u = bits_from_float(f);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return uint16_t((u >> 16) | 0x40u);
  return uint16_t((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

BNB_FN BNB_CONSTEXPR float float_from_fp16(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7FFFu;
  if (magnitude > 0x7C00u) return float_from_bits(sign | 0x00400000u | (magnitude << 13) | 0x7F800000u);
  if (magnitude == 0x7C00u) return float_from_bits(sign | 0x7F800000u);
  if (magnitude >= 0x0400u) return float_from_bits(sign | ((magnitude << 13) + (112u << 23)));
  // Subnormal: magnitude * 2^-24, exact in fp32.
  return float_from_bits(sign | bits_from_float(float(magnitude) * 5.9604644775390625e-8f));
}

BNB_FN BNB_CONSTEXPR uint16_t fp16_from_float(float f) {
  const uint32_t u = bits_from_float(f);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return uint16_t(sign | 0x7E00u | ((magnitude >> 13) & 0x01FFu));
  if (magnitude >= 0x477FF000u) return uint16_t(sign | 0x7C00u);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {                                   // below 2^-14: the sum aligns to multiples of 2^-24
    const float aligned = float_from_bits(magnitude) + 0.5f;
    return uint16_t(sign | (bits_from_float(aligned) - 0x3F000000u));
  }
  const uint32_t rounded = magnitude + 0x0FFFu + ((magnitude >> 13) & 1u);
  return uint16_t(sign | ((rounded - (112u << 23)) >> 13));
}

}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_FLOAT16_H_
