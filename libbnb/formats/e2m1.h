// SPDX-License-Identifier: MIT
// The OCP 4-bit float E2M1 (MX specification 1.0): exact decoding, and saturating round-to-nearest-even encoding.
#ifndef BNB_FORMATS_E2M1_H_
#define BNB_FORMATS_E2M1_H_

#include "formats/portable.h"

namespace bnb {
namespace formats {

struct E2M1 {
  enum : int { kBits = 4, kMantissaBits = 1, kBias = 1 };
  enum : uint8_t { kMaxCode = 7 };
  static BNB_FN BNB_CONSTEXPR float max_finite() { return 6.0f; }
};

namespace e2m1 {

// fp32 bits of the value of each code: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. Each is a bf16 number, too.
BNB_TABLE uint32_t kCodeBits[16] = {0x00000000u, 0x3F000000u, 0x3F800000u, 0x3FC00000u, 0x40000000u, 0x40400000u,
                                    0x40800000u, 0x40C00000u, 0x80000000u, 0xBF000000u, 0xBF800000u, 0xBFC00000u,
                                    0xC0000000u, 0xC0400000u, 0xC0800000u, 0xC0C00000u};

BNB_FN float decode(uint8_t code) { return float_from_bits(kCodeBits[code & 15]); }

// Nearest code, ties to the even one, magnitudes above 6 give 6; zero keeps its sign. There is no NaN: it gives 0.
BNB_FN uint8_t encode(float x) {
  const uint32_t bits = bits_from_float(x);
  const float magnitude = float_from_bits(bits & 0x7FFFFFFFu);
  if (!(magnitude >= 0.0f)) return 0;
  int code = 0;
  for (int i = 0; i < E2M1::kMaxCode; ++i) {
    const float middle = (decode(uint8_t(i)) + decode(uint8_t(i + 1))) * 0.5f;
    code += i % 2 ? magnitude >= middle : magnitude > middle;
  }
  return uint8_t(code | int((bits >> 28) & 8u));
}

}  // namespace e2m1
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_E2M1_H_
