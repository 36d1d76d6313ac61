// SPDX-License-Identifier: MIT
// Finding the nearest of 256 code values, exactly, with two look-ups in shared memory and one comparison.
//
// The nearest code of x is the number of midpoints strictly below x. Floats are cut into buckets by their sign, exponent and upper
// seven mantissa bits; magnitudes below 2^-kOctaves share one bucket a sign, those from 1 on another. A table has, for each bucket,
// how many midpoints lie in the buckets below: if none has two of them, one comparison with the next midpoint decides. Codes that
// are denser somewhere (the dynamic maps are not) are searched by halving.
#ifndef BNB_GPU_NEAREST_CODE_H_
#define BNB_GPU_NEAREST_CODE_H_

#include "core/dtype.h"
#include "gpu/compat.h"

namespace bnb::gpu {

// In shared memory.
struct NearestCode {
  static constexpr int kCodes = 256, kOctaves = 24;
  static constexpr int kShift = 16, kLowest = (127 - kOctaves) << 7;  // of bits >> kShift, 2^-kOctaves
  static constexpr int kTop = (kOctaves << 7) + 1;                    // the last bucket of a sign
  static constexpr int kBuckets = 2 * (kTop + 1);                     // a multiple of 4

  float midpoints[kCodes];  // the last one is above everything
  uint32_t below[kBuckets / 4];  // a byte for each bucket, in ascending order
  uint32_t dense;

  // x is a number of magnitude below 1 + 2^-7.
  BNB_DEVICE_METHOD static int bucket_of(float x) {
    const int bits = int(formats::bits_from_float(x)), sign = bits >> 31;
    const int bucket = ((bits & 0x7FFFFFFF) >> kShift) - kLowest + 1;
    return ((bucket < 0 ? 0 : bucket) ^ sign) + kTop + 1;
  }
  BNB_DEVICE_METHOD uint32_t look_up(float x) const {
    const uint32_t code = reinterpret_cast<const uint8_t *>(below)[bucket_of(x)];
    return code + (x > midpoints[code] ? 1 : 0);
  }

  // Any code, any x; NaN gives 0.
  BNB_DEVICE_METHOD uint32_t search(float x) const {
    uint32_t code = 0;
    for (uint32_t step = kCodes / 2; step > 0; step /= 2) code += x > midpoints[code + step - 1] ? step : 0;
    return code;
  }

  // All threads of the block; there is a barrier inside, and one has to come before the first look-up.
  BNB_DEVICE_METHOD void fill(const void *code) {
    if (thread_index() == 0) dense = 0;
    barrier();
    for (int k = int(thread_index()); k < kCodes; k += int(thread_count())) fill_entry(code, k);
  }

 private:
  BNB_DEVICE_METHOD static float midpoint(const void *code, int k) {
    if (k == kCodes - 1) return formats::float_from_bits(0x7F800000u);
    return (load<float>(code, k) + load<float>(code, k + 1)) * 0.5f + 0.0f;  // not -0
  }
  BNB_DEVICE_METHOD static int bucket_of_any(float x) {
    return bucket_of(x >= 1.0f ? 1.0f : x <= -1.0f ? -1.0f : x == x ? x : 0.0f);
  }
  // The buckets above the midpoint before, up to that of midpoint k, have k midpoints below them.
  BNB_DEVICE_METHOD void fill_entry(const void *code, int k) {
    midpoints[k] = midpoint(code, k);
    const int before = k == 0 ? -1 : bucket_of_any(midpoint(code, k - 1));
    const int last = k == kCodes - 1 ? kBuckets - 1 : bucket_of_any(midpoints[k]);
    if (before == last && k < kCodes - 1) atomic_store(&dense, 1);
    auto *bytes = reinterpret_cast<uint8_t *>(below);
    int i = before + 1;
    for (; i <= last && i % 4 != 0; ++i) bytes[i] = uint8_t(k);
    for (; i + 3 <= last; i += 4) below[i / 4] = uint32_t(k) * 0x01010101u;
    for (; i <= last; ++i) bytes[i] = uint8_t(k);
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_NEAREST_CODE_H_
