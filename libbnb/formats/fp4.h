// SPDX-License-Identifier: MIT
// FP4 of bitsandbytes: sign in bit 3 and eight magnitudes, not in ascending order of the low three bits.
#ifndef BNB_FORMATS_FP4_H_
#define BNB_FORMATS_FP4_H_

#include "formats/portable.h"

namespace bnb {
namespace formats {
namespace fp4 {

// fp32 bits of the value of each code: 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 and their negatives. Code 8, which negative
// elements that round to zero get, is -0 as in bitsandbytes' C tables (its Python table has +0).
BNB_TABLE uint32_t kCodeBits[16] = {0x00000000u, 0x3BAAAAABu, 0x3F2AAAABu, 0x3F800000u, 0x3EAAAAABu, 0x3F000000u,
                                    0x3E2AAAABu, 0x3E800000u, 0x80000000u, 0xBBAAAAABu, 0xBF2AAAABu, 0xBF800000u,
                                    0xBEAAAAABu, 0xBF000000u, 0xBE2AAAABu, 0xBE800000u};

// fp32 midpoints of neighbouring magnitudes, ascending; the last entry, NaN, is padding.
BNB_TABLE uint32_t kThresholdBits[8] = {0x3B2AAAABu, 0x3DB00000u, 0x3E555556u, 0x3E955556u,
                                        0x3ED55556u, 0x3F155556u, 0x3F555556u, 0x7FC00000u};

// Low three bits of the code of the i-th smallest magnitude.
BNB_TABLE uint8_t kMagnitudeCode[8] = {0, 1, 6, 7, 4, 5, 2, 3};

enum : uint8_t { kZeroCode = 0 };

// Nearest code of a normalised value; a tie goes to the smaller magnitude, the sign bit is set exactly when x < 0.
BNB_FN uint8_t encode(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  int rank = 0;
  for (int i = 0; i < 7; ++i) rank += magnitude > float_from_bits(kThresholdBits[i]);
  return uint8_t(kMagnitudeCode[rank] | (x < 0.0f ? 8 : 0));
}

BNB_FN float decode(uint8_t code) { return float_from_bits(kCodeBits[code & 15]); }

}  // namespace fp4
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_FP4_H_
