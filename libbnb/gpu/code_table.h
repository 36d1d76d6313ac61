// SPDX-License-Identifier: MIT
// Finding the nearest of 256 code values, exactly, with one look-up in shared memory.
//
// The nearest code of x is the number of midpoints strictly below x. Floats are cut into buckets by their sign, exponent and upper
// seven mantissa bits; magnitudes below 2^-kOctaves share one bucket a sign. If no bucket holds two different midpoints, its entry says
// all: the code below its midpoint, the code above it, and the lower 16 bits of the midpoint, which decide. Codes that are denser
// somewhere (the dynamic, linear, FP8 and normal maps are not) are searched by halving.
//
// Why not the smaller table of nearest_code.h, which looks up a midpoint, too: bf16 moves 3 bytes an element, so that a multiprocessor
// of an H200 has to find six codes a clock. The 32 lanes of a warp look at 32 words of about 30 banks' choice, of which the fullest is
// asked three or four times: nine look-ups a clock, or four and a half codes if each of them takes two.
#ifndef BNB_GPU_CODE_TABLE_H_
#define BNB_GPU_CODE_TABLE_H_

#include "core/dtype.h"
#include "gpu/compat.h"

namespace bnb::gpu {

// In shared memory; for a block of at least kCodes threads.
class CodeTable {
 public:
  // All threads of the block; there are barriers inside, and one has to come before the first look-up.
  BNB_DEVICE_METHOD void fill(const void *code) {
    const int thread = int(thread_index());
    if (thread == 0) dense_ = 0;
    if (thread < kCodes) {
      midpoints_[thread] = midpoint(code, thread);
      bucket_of_midpoint_[thread] = int16_t(bucket_of_any(midpoints_[thread]));
    }
    barrier();
    if (thread < kCodes) fill_entries(thread * kEntriesOfThread);
  }

  // False: only search() knows.
  BNB_DEVICE_METHOD bool has_entries() const { return dense_ == 0; }

  // x is a number of magnitude below 1 + 2^-7.
  BNB_DEVICE_METHOD uint32_t look_up(float x) const {
    const uint32_t magnitude = formats::bits_from_float(fmaxf(fabsf(x), formats::float_from_bits((kLowest << kShift) - 1)));
    const int sign = int(formats::bits_from_float(x)) >> 31;
    const uint32_t entry = entries_[((int(magnitude >> kShift) - (kLowest - 1)) ^ sign) + kOfSign];
    const uint32_t middle = (magnitude & 0xFFFF0000u) | (entry & 0xFFFFu);
    return entry >> (magnitude > middle ? 24 : 16) & 0xFFu;
  }

  // Any code, any x; NaN gives 0.
  BNB_DEVICE_METHOD uint32_t search(float x) const {
    uint32_t code = 0;
    BNB_UNROLL
    for (uint32_t step = kCodes / 2; step > 0; step /= 2) code += x > midpoints_[code + step - 1] ? step : 0;
    return code;
  }

 private:
  static constexpr int kCodes = 256, kOctaves = 24;
  static constexpr int kShift = 16, kLowest = (127 - kOctaves) << 7;  // upper half of 2^-kOctaves
  static constexpr int kOfSign = (kOctaves << 7) + 2;                 // the octaves, one bucket below and [1, 1 + 2^-7) above them
  static constexpr int kBuckets = 2 * kOfSign;                        // ascending
  static constexpr int kEntriesOfThread = (kBuckets + kCodes - 1) / kCodes;
  static_assert(kEntriesOfThread % 2 == 1, "threads that fill entries side by side do not meet in a bank");

  BNB_DEVICE_METHOD static float midpoint(const void *code, int k) {
    if (k == kCodes - 1) return formats::float_from_bits(0x7F800000u);
    return (load<float>(code, k) + load<float>(code, k + 1)) * 0.5f;
  }
  // Beyond the last bucket, or before the first: no x gets there.
  BNB_DEVICE_METHOD static int bucket_of_any(float x) {
    const uint32_t bits = formats::bits_from_float(x);
    const int bucket = int((bits & 0x7FFFFFFFu) >> kShift) - (kLowest - 1), of_sign = bucket < 0 ? 0 : bucket;
    if (of_sign >= kOfSign) return x > 0.0f ? kBuckets : -1;
    return (of_sign ^ (int(bits) >> 31)) + kOfSign;
  }

  BNB_DEVICE_METHOD void fill_entries(int first) {
    int k = 0;  // midpoints in lower buckets
    for (int step = kCodes / 2; step > 0; step /= 2) k += bucket_of_midpoint_[k + step - 1] < first ? step : 0;
    for (int bucket = first; bucket < first + kEntriesOfThread && bucket < kBuckets; ++bucket) {
      const int lower = k;
      while (k < kCodes - 1 && bucket_of_midpoint_[k] == bucket) ++k;
      entries_[bucket] = entry_of(bucket, lower, k);
    }
  }
  // lower .. upper - 1 are the midpoints in a bucket. An x of at most theirs has code `lower`, and above it `upper`. The comparison
  // is one of magnitudes: where they are negative, x has code `lower` from the magnitude of the midpoint on.
  BNB_DEVICE_METHOD uint32_t entry_of(int bucket, int lower, int upper) {
    if (lower == upper) return uint32_t(lower) << 24 | uint32_t(lower) << 16;
    const bool smallest = bucket == kOfSign || bucket == kOfSign - 1;
    if (smallest || midpoints_[lower] != midpoints_[upper - 1]) atomic_store(&dense_, 1);
    const uint32_t low = formats::bits_from_float(midpoints_[lower]) & 0xFFFFu;
    if (bucket >= kOfSign) return uint32_t(upper) << 24 | uint32_t(lower) << 16 | low;
    if (low == 0) return uint32_t(lower) << 24 | uint32_t(lower) << 16;
    return uint32_t(lower) << 24 | uint32_t(upper) << 16 | (low - 1);
  }

  float midpoints_[kCodes];  // ascending; the last one is above everything
  uint32_t entries_[kBuckets];  // bits 0 - 15: of the midpoint; 16 - 23: the code up to it; 24 - 31: the code from there on
  int16_t bucket_of_midpoint_[kCodes];
  uint32_t dense_;
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_CODE_TABLE_H_
