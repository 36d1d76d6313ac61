// SPDX-License-Identifier: MIT
// NF4: sixteen quantiles of the normal distribution (QLoRA, arXiv:2305.14314, appendix E), ascending, code 7 is zero.
#ifndef BNB_FORMATS_NF4_H_
#define BNB_FORMATS_NF4_H_

#include "formats/portable.h"

namespace bnb {
namespace formats {
namespace nf4 {

// fp32 bits of the value of each code.
BNB_TABLE uint32_t kCodeBits[16] = {0xBF800000u, 0xBF3239B1u, 0xBF066B30u, 0xBECA32A0u, 0xBE91A24Du, 0xBE3D353Fu,
                                    0xBDBA7871u, 0x00000000u, 0x3DA2FAFFu, 0x3E24CAE3u, 0x3E7C04DDu, 0x3EAD033Au,
                                    0x3EE1A4B8u, 0x3F1007ABu, 0x3F3913B3u, 0x3F800000u};

// fp32 midpoints of neighbouring codes: x' goes above kThresholdBits[i] to reach code i + 1. The last entry, NaN, is
// padding that nothing compares above.
BNB_TABLE uint32_t kThresholdBits[16] = {0xBF591CD8u, 0xBF1C5270u, 0xBEEB8480u, 0xBEADEA76u, 0xBE703CECu, 0xBE0D38BCu,
                                         0xBD3A7871u, 0x3D22FAFFu, 0x3DF64862u, 0x3E5067E0u, 0x3E9582D4u, 0x3EC753F9u,
                                         0x3F006D04u, 0x3F248DAFu, 0x3F5C89DAu, 0x7FC00000u};

enum : uint8_t { kZeroCode = 7 };

// Nearest code of a normalised value: the number of thresholds strictly below it. NaN gives 0.
BNB_FN uint8_t encode(float x) {
  uint8_t code = 0;
  for (int i = 0; i < 15; ++i) code = uint8_t(code + (x > float_from_bits(kThresholdBits[i])));
  return code;
}

BNB_FN float decode(uint8_t code) { return float_from_bits(kCodeBits[code & 15]); }

}  // namespace nf4
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_NF4_H_
