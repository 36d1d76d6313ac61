// SPDX-License-Identifier: MIT
// What int8 kernels share: codes of elements, and the scaling behind an int8 product.
#ifndef BNB_METAL_KERNELS_INT8_CODES_H_
#define BNB_METAL_KERNELS_INT8_CODES_H_

#include "metal/kernels/args.h"
#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace bnb {
namespace kernels {

// |x| >= threshold, compared as integers: subnormal numbers count. NaN is none.
inline bool is_outlier(constant Int8Args &args, float x) {
  const uint magnitude = magnitude_bits(x);
  return args.threshold_bits != 0 && magnitude >= args.threshold_bits && magnitude <= kInfinityBits;
}

// How the elements of a row or column with this absmax are scaled.
struct Int8Scale {
  float absmax, factor;
};
inline Int8Scale int8_scale(float absmax) {
  Int8Scale made = {absmax, ieee::divide(127.0f, absmax)};
  return made;
}

// x scaled so that absmax becomes 127; 0 where absmax is no number above zero.
inline float scaled_to_int8(Int8Scale scale, float x) {
  const uint bits = bits_from_float(scale.absmax);
  if (bits == 0 || bits > kInfinityBits) return 0.0f;
  if (bits == kInfinityBits) return magnitude_bits(x) == kInfinityBits ? (bits_from_float(x) >> 31 != 0 ? -127.0f : 127.0f) : 0.0f;
  const bool divides = bits_from_float(scale.factor) == kInfinityBits;
  return divides ? ieee::multiply(ieee::divide(x, scale.absmax), 127.0f) : ieee::multiply(x, scale.factor);
}

// The same, half to even.
inline int int8_code(Int8Scale scale, float x) { return int(rint(scaled_to_int8(scale, x))); }

// x as a number of low to 127, half to even; 0 for NaN.
inline int saturated_code(float x, float low) {
  if (magnitude_bits(x) > kInfinityBits) return 0;
  return int(rint(x > 127.0f ? 127.0f : x < low ? low : x));
}

// Element i of an array of a float dtype that is known when the kernel runs: BiasArgs::dtype.
inline float load_any_float(constant BiasArgs &args, device const uchar *array, long i) {
  if (args.dtype == kBiasF32) return load_f32(array, args.aligned != 0, i);
  return args.dtype == kBiasF16 ? load_float<F16>(array, args.aligned != 0, i) : load_float<BF16>(array, args.aligned != 0, i);
}

// sum * scale * (1 / (127 * 127)) + bias[col], in this order.
inline float scaled_sum(int sum, float scale, constant BiasArgs &args, device const uchar *bias, long col) {
  const float value = ieee::multiply(ieee::multiply(float(sum), scale), 1.0f / (127.0f * 127.0f));
  return args.dtype == kNoBias ? value : ieee::add(value, load_any_float(args, bias, col));
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_INT8_CODES_H_
