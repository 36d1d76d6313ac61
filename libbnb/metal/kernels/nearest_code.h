// SPDX-License-Identifier: MIT
// The nearest of 256 ascending values: the number of midpoints strictly below, in integers that are ordered as numbers are. EXACT.
//
// Halving takes eight looks. CodeTable takes two: numbers are cut into buckets by their sign, exponent and upper seven bits of fraction
// (magnitudes below 2^-kOctaves share one a sign, those from 1 on another), and a table has for each bucket how many midpoints lie in
// the buckets below. Where none has two of them, as with the dynamic maps, one comparison with the next midpoint decides.
#ifndef BNB_METAL_KERNELS_NEAREST_CODE_H_
#define BNB_METAL_KERNELS_NEAREST_CODE_H_

#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace bnb {
namespace kernels {

enum : int { kCodes = 256 };
enum : int {
  kOctaves = 24,
  kBucketShift = 16,                               // of the bits of a number
  kLowestBucket = (127 - kOctaves) << 7,           // of those, 2^-kOctaves
  kTopBucket = (kOctaves << 7) + 1,                // the last one of a sign
  kBuckets = 2 * (kTopBucket + 1),
  kBucketWords = kBuckets / 4
};

// Between code i and the next one; the last one is above everything.
inline int midpoint_order(device const uchar *code, uint i) {
  if (i + 1 >= uint(kCodes)) return 0x7F800000;
  return order_of(ieee::multiply(ieee::add(load_f32(code, false, i), load_f32(code, false, i + 1)), 0.5f));
}

// NaN gives 0.
inline uint search_code(threadgroup const int *midpoints, float x) {
  const int order = order_of(x);
  uint code = 0;
  for (uint step = kCodes / 2; step > 0; step /= 2) code += order > midpoints[code + step - 1] ? step : 0u;
  return code;
}

// Of an order that is that of a number of magnitude below 1 + 2^-7, or is taken for the nearest such.
inline int bucket_of(int order) {
  const int magnitude = order < 0 ? -order : order, bucket = (magnitude >> kBucketShift) - kLowestBucket + 1;
  const int of_sign = bucket < 0 ? 0 : bucket > kTopBucket ? int(kTopBucket) : bucket;
  return kTopBucket + (order < 0 ? -of_sign : of_sign + 1);
}
inline uint look_up_code(threadgroup const int *midpoints, threadgroup const uint *below, float x) {
  const int order = order_of(x);
  const uint code = reinterpret_cast<threadgroup const uchar *>(below)[bucket_of(order)];
  return code + (order > midpoints[code] ? 1u : 0u);
}

// Thread k of kCodes: its midpoint, and its part of the table. Returns whether there is a bucket that look_up_code() must not be asked for.
inline bool fill_code_table(device const uchar *code, uint k, threadgroup int *midpoints, threadgroup uint *below) {
  const int middle = midpoint_order(code, k), before = k == 0 ? -1 : bucket_of(midpoint_order(code, k - 1));
  const int last = k + 1 == uint(kCodes) ? kBuckets - 1 : bucket_of(middle);
  midpoints[k] = middle;
  threadgroup uchar *bytes = reinterpret_cast<threadgroup uchar *>(below);
  int i = before + 1;
  for (; i <= last && i % 4 != 0; ++i) bytes[i] = uchar(k);
  for (; i + 3 <= last; i += 4) below[i / 4] = k * 0x01010101u;
  for (; i <= last; ++i) bytes[i] = uchar(k);
  return before == last && k + 1 < uint(kCodes);
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_NEAREST_CODE_H_
