// SPDX-License-Identifier: MIT
// Inputs that look for trouble, block by block.
#ifndef TESTS_CONFORMANCE_FILLS_H_
#define TESTS_CONFORMANCE_FILLS_H_

#include "call.h"
#include "random.h"

namespace conformance {

enum class Fill {
  kNormal,
  kUniform,
  kWide,      // magnitudes over many octaves
  kZeros,     // of both signs
  kConstant,  // every element is the largest
  kOneHot,    // one element that is not zero
  kTies,      // exactly on a threshold times a power of two, or one ulp beside it
  kExtremes,  // largest, smallest normal, smallest subnormal, zero
  kSubnormals,
  kTiny,        // absmax so small that its reciprocal overflows
  kHuge,        // absmax so large that its reciprocal is subnormal
  kSpecials,    // some NaN and infinities
  kInfinities,  // no NaN
  kAllNan,
  kBits,   // any bit pattern
  kMixed,  // every block draws one of the above
};

constexpr Fill kAllFills[] = {Fill::kNormal,     Fill::kUniform, Fill::kWide, Fill::kZeros,
                              Fill::kConstant,   Fill::kOneHot,  Fill::kTies, Fill::kExtremes,
                              Fill::kSubnormals, Fill::kTiny,    Fill::kHuge, Fill::kSpecials,
                              Fill::kInfinities, Fill::kAllNan,  Fill::kBits, Fill::kMixed};
const char *name_of(Fill fill);

// Where a format decides: its thresholds, in units in which the largest magnitude of a block is `top`.
struct Thresholds {
  std::vector<float> at;
  float top = 1.0f;
};

// n elements of a float dtype, drawn block by block.
Bytes filled(Fill fill, DLDataType dtype, int64_t n, int64_t blocksize, const Thresholds &thresholds, Random &random);

// n values for scales: zeros of both signs, subnormals, the largest, infinity, NaN, and ordinary ones.
std::vector<float> scales(int64_t n, Random &random);

// n bytes with any value; n fp32 with any bit pattern; every byte in order, `times` times.
Bytes random_bytes(int64_t n, Random &random);
std::vector<float> any_floats(int64_t n, Random &random);
Bytes all_bytes(int64_t times);

// All 65536 items of a 16-bit dtype in order; or, with random numbers, the finite ones shuffled.
Bytes all_16bit(DLDataType dtype, Random *shuffle);

// Each of the 65536 items followed by `partner`.
Bytes all_16bit_beside(DLDataType dtype, float partner);

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_FILLS_H_
