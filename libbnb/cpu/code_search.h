// SPDX-License-Identifier: MIT
// Finding the nearest of 256 code values with one table look-up and one comparison, exactly.
//
// The nearest code of x is the number of midpoints strictly below x. Positive floats are cut into buckets by the upper 16 bits
// of their pattern (exponent and seven mantissa bits: 128 buckets an octave), negative ones likewise; if no bucket
// holds two different midpoints, a bucket's entry says it all: the code below its midpoint, the code above it, and the lower 16
// bits of the midpoint, which decide. Magnitudes below 2^-kOctaves share one bucket a side, those from 1 + 2^-7 on another.
// Codes too dense for this (not the dynamic, linear, FP8 or normal maps) are searched in `midpoints`.
#ifndef BNB_CPU_CODE_SEARCH_H_
#define BNB_CPU_CODE_SEARCH_H_

#include <cstdint>

namespace bnb::cpu {

struct CodeSearch {
  enum : int32_t {
    kOctaves = 36,  // down to 1.5e-11: below the smallest midpoint of every map (E5M2 of bitsandbytes: 2^-35.8)
    kLowestKey = (127 - kOctaves) << 7,                 // upper 16 bits of 2^-kOctaves
    kBucketsPerSign = kOctaves * 128 + 2,               // the octaves, one bucket below and [1, 1 + 2^-7) above them
    kTopBucket = kBucketsPerSign - 1,
  };

  // Bucket of |x|: clamp((bits >> 16) - kLowestKey + 1, 0, kTopBucket). Entries of x <= 0 (and NaN) come first, then those of
  // x > 0. Layout of an entry: bits 0-7 `near`, 8-15 `far`, 16-31 `low`; the code is `far` if the lower 16 bits of |x| are
  // above `low`, else `near`. (For x < 0 `far` is the smaller code: |x| above |midpoint| is x below it. There the comparison
  // must hold at equality too, so `low` is one less; a midpoint whose low bits are 0 makes the bucket all `far`.)
  uint32_t entries[2 * kBucketsPerSign];

  float midpoints[256];  // ascending; [255] is infinity
  bool dense;            // true: entries are not usable, search the midpoints
};

// code: fp32 [256], ascending, at any address.
void make_code_search(const void *code, CodeSearch *search);

// The search of the signed or the unsigned dynamic map if `code` is one of them (made once), else NULL.
const CodeSearch *known_code_search(const void *code);

}  // namespace bnb::cpu

#endif  // BNB_CPU_CODE_SEARCH_H_
