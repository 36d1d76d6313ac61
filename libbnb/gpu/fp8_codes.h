// SPDX-License-Identifier: MIT
// FP8 codes four at a time: what formats/fp8.h says, by the instructions for it where there are some (from sm_89 on).
#ifndef BNB_GPU_FP8_CODES_H_
#define BNB_GPU_FP8_CODES_H_

#include "core/dtype.h"
#include "formats/fp8.h"
#include "gpu/compat.h"

namespace bnb::gpu {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
// Round to nearest even, saturating; NaN is 0x7F.
BNB_DEVICE uint32_t two_fp8(formats::fp8::E4M3FN, float low, float high) {
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
BNB_DEVICE uint32_t two_fp8(formats::fp8::E5M2, float low, float high) {
  uint16_t codes;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
#else
template <typename Format>
BNB_DEVICE uint32_t two_fp8(Format, float low, float high) {
  return formats::fp8::encode<Format>(low) | uint32_t(formats::fp8::encode<Format>(high)) << 8;
}
#endif

// Code of x[0] in the lowest byte.
template <typename Format>
BNB_DEVICE uint32_t four_fp8(const float *x) {
  return two_fp8(Format{}, x[0], x[1]) | two_fp8(Format{}, x[2], x[3]) << 16;
}

// E4M3FN is moved into an fp32 whose exponent is 120 too low, subnormals included; E5M2 is the upper half of a binary16.
BNB_DEVICE float value_of_fp8(formats::fp8::E4M3FN, uint32_t code) {
  const float x = formats::float_from_bits(((code & 0x80u) << 24) | ((code & 0x7Fu) << 20)) * 0x1p120f;
  return (code & 0x7Fu) == 0x7Fu ? formats::float_from_bits(0x7FC00000u) : x;
}
BNB_DEVICE float value_of_fp8(formats::fp8::E5M2, uint32_t code) { return F16::widen(uint16_t(code << 8)); }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
BNB_DEVICE uint32_t two_halves(formats::fp8::E4M3FN, uint32_t codes) {
  uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(uint16_t(codes)));
  return halves;
}
BNB_DEVICE uint32_t two_halves(formats::fp8::E5M2, uint32_t codes) {
  uint32_t halves;
  asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(uint16_t(codes)));
  return halves;
}
template <typename Format>
BNB_DEVICE void values_of_fp8(uint32_t codes, float *x) {
  BNB_UNROLL
  for (int j = 0; j < 4; j += 2) {
    const uint32_t halves = two_halves(Format{}, codes >> (8 * j));
    x[j] = F16::widen(uint16_t(halves));
    x[j + 1] = F16::widen(uint16_t(halves >> 16));
  }
}
#else
template <typename Format>
BNB_DEVICE void values_of_fp8(uint32_t codes, float *x) {
  BNB_UNROLL
  for (int j = 0; j < 4; ++j) x[j] = value_of_fp8(Format{}, codes >> (8 * j) & 0xFFu);
}
#endif

}  // namespace bnb::gpu

#endif  // BNB_GPU_FP8_CODES_H_
