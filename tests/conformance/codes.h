// SPDX-License-Identifier: MIT
// The 256-entry codes that 8-bit operations are tried with.
#ifndef TESTS_CONFORMANCE_CODES_H_
#define TESTS_CONFORMANCE_CODES_H_

#include "fills.h"

namespace conformance {

enum class Code {
  kDynamicSigned,
  kDynamicUnsigned,
  kLinear,  // 255 steps from -1 to 1 with a second zero
  kE4M3,    // bitsandbytes' FP8 maps: exponents of negative powers, divided by the largest
  kE5M2,
  kNormal,       // sixteen levels of NF4 and 240 more zeros
  kRandom,       // sorted uniform numbers
  kDense,        // all in [0.999, 1]
  kDenseAtZero,  // all within 1e-6 of zero, 1 at the end
  kBeyondOne,    // from -3 to 3
  kOneSided,     // all negative
  kConstant,     // one value 256 times
  kTwoValues,
};

constexpr Code kAllCodes[] = {Code::kDynamicSigned, Code::kDynamicUnsigned, Code::kLinear,   Code::kE4M3,
                              Code::kE5M2,          Code::kNormal,          Code::kRandom,   Code::kDense,
                              Code::kDenseAtZero,   Code::kBeyondOne,       Code::kOneSided, Code::kConstant,
                              Code::kTwoValues};
const char *name_of(Code code);

std::vector<float> values_of(Code code, Random &random);  // 256, ascending

Thresholds thresholds_of(const std::vector<float> &code);  // its midpoints

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_CODES_H_
