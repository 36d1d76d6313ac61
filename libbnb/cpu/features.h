// SPDX-License-Identifier: MIT
// What this CPU and operating system can run, as a set of bits that the rows of cpu/meson.build name.
#ifndef BNB_CPU_FEATURES_H_
#define BNB_CPU_FEATURES_H_

#include <cstdint>

namespace bnb::cpu {

enum Feature : uint32_t {
  kAVX2 = 1u << 0,
  kFMA = 1u << 1,
  kF16C = 1u << 2,
  kBMI2 = 1u << 3,
  kAVX512 = 1u << 4,  // F, BW, DQ, VL and CD: every AVX-512 CPU since Skylake-SP
  kAVX512VBMI = 1u << 5,
  kAVX512VNNI = 1u << 6,
  kAVX512BF16 = 1u << 7,
  kAMXBF16 = 1u << 8,
  kAMXINT8 = 1u << 9,
  kNEON = 1u << 16,
  kDotProd = 1u << 17,
  kI8MM = 1u << 18,
  kBF16 = 1u << 19,
};

uint32_t detect_features();

}  // namespace bnb::cpu

#endif  // BNB_CPU_FEATURES_H_
