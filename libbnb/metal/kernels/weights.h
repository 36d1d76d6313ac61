// SPDX-License-Identifier: MIT
// Quantized weights as kernels of products read them: codes by a table of all values in threadgroup memory, scales as numbers that no GPU
// takes for zero, and the outputs. A format is a row of value_of_code() and of the host's formats.
#ifndef BNB_METAL_KERNELS_WEIGHTS_H_
#define BNB_METAL_KERNELS_WEIGHTS_H_

#include "formats/e2m1.h"
#include "formats/fp4.h"
#include "formats/fp8.h"
#include "formats/nf4.h"
#include "metal/kernels/int8_codes.h"
#include "metal/kernels/scales.h"

namespace bnb {
namespace kernels {

inline float value_of_code(uint format, uint code) {
  if (format == kWeightsE4M3FN) return formats::fp8::decode<formats::fp8::E4M3FN>(uchar(code));
  if (format == kWeightsE5M2) return formats::fp8::decode<formats::fp8::E5M2>(uchar(code));
  if (format == kWeightsNf4) return formats::nf4::decode(uchar(code));
  return format == kWeightsFp4 ? formats::fp4::decode(uchar(code)) : formats::e2m1::decode(uchar(code));
}

// How codes lie in memory. decode_eight: those from number `at` of the words on, which is a multiple of 8.
struct Nibbles {
  enum : int { kBits = 4, kCodes = 16 };
  static inline void decode_eight(threadgroup const float *values, bool low_first, thread const uint *words, int at, thread float *w) {
    uint codes = words[at / 8];
    if (low_first) codes = (codes & 0x0F0F0F0Fu) << 4 | (codes >> 4 & 0x0F0F0F0Fu);
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = values[codes >> uint(j / 2 * 8 + (j % 2 == 0 ? 4 : 0)) & 15u];
  }
};
struct Bytes {
  enum : int { kBits = 8, kCodes = 256 };
  static inline void decode_eight(threadgroup const float *values, bool, thread const uint *words, int at, thread float *w) {
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = values[words[(at + j) / 4] >> uint(j % 4 * 8) & 255u];
  }
};

// All threads take part; values: Codec::kCodes.
template <typename Codec>
inline void fill_values(constant GemmArgs &args, threadgroup float *values, uint index, uint threads) {
  for (uint code = index; code < uint(Codec::kCodes); code += threads) values[code] = value_of_code(args.weights, code);
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// x * scale is x * factor * power. Neither is a subnormal number.
struct BlockScale {
  float factor, power;
};
inline BlockScale block_scale(float scale) {
  const float k2To64 = 18446744073709551616.0f;
  const bool normal = (bits_from_float(scale) & kInfinityBits) != 0;
  BlockScale made = {normal ? scale : ieee::multiply(scale, k2To64), normal ? 1.0f : 1.0f / k2To64};
  return made;
}

// x is power * rest: a power of two, by which codes can be multiplied and keep their few bits, and a number from 1 to 2, or zero, infinity
// or NaN.
struct SplitScale {
  float power, rest;
};
inline SplitScale split_scale(float x) {
  const uint bits = bits_from_float(x), sign = bits & kSignBit, magnitude = bits ^ sign;
  SplitScale made = {1.0f, x};
  if (magnitude == 0 || magnitude >= kInfinityBits) return made;
  const uint exponent = magnitude >> 23, leading = 31 - clz(magnitude);  // of a subnormal number its highest bit is what is left
  made.power = float_from_bits(exponent != 0 ? exponent << 23 : 1u << leading);
  made.rest = float_from_bits(sign | 0x3F800000u | ((exponent != 0 ? magnitude : magnitude << (23 - leading)) & 0x007FFFFFu));
  return made;
}

// out[m, n] = sum * scale + bias[n], for outputs that are there.
template <typename Tag>
struct GemmOutputs {
  constant GemmArgs *args;
  device const uchar *bias;
  device uchar *out;
  float scale;

  inline void store(long m, long n, float sum) const {
    if (m >= args->m || n >= args->n) return;
    const float added = args->bias.dtype == kNoBias ? 0.0f : load_any_float(args->bias, bias, n);
    store_float<Tag>(out, args->aligned_out != 0, m * args->out_stride + n, sum * scale + added);
  }
};

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_WEIGHTS_H_
