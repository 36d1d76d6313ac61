// SPDX-License-Identifier: MIT
// The scales of blocks as fp32, whatever they are stored as, many at a time.
#ifndef BNB_CPU_KERNELS_SCALES_H_
#define BNB_CPU_KERNELS_SCALES_H_

#include "cpu/kernels/small_floats.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kScalesAtOnce = 256;

// Powers of two, in the lowest bytes of lanes. The smallest one is subnormal in fp32.
BNB_INLINE Floats decode_e8m0(Ints codes) {
  const Ints exponent = shift_left<23>(codes);
  const Ints smallest = select_int(equal_int(codes, splat_int(0)), splat_bits(0x00400000u), exponent);
  return from_bits(select_int(equal_int(codes, splat_int(formats::e8m0::kNanCode)), splat_bits(0x7FC00000u), smallest));
}

BNB_INLINE void nested_scales(const AbsmaxView &scales, int64_t first, int64_t count, float *buffer) {
  const bool aligned = reinterpret_cast<uintptr_t>(scales.nested_code) % 4 == 0;
  const float offset = bnb::load<float>(scales.nested_offset, 0);
  int64_t block = first / scales.nested_blocksize, left = scales.nested_blocksize - first % scales.nested_blocksize;
  for (int64_t i = 0; i < count; ++block, left = scales.nested_blocksize) {
    const int64_t stop = left < count - i ? i + left : count;
    const float scale = bnb::load<float>(scales.nested_absmax, block);
    for (; aligned && i + kLanes <= stop; i += kLanes) {
      const Floats code = gather(static_cast<const float *>(scales.nested_code), load_uint8(scales.codes + first + i));
      store<F32>(buffer + i, add(mul(code, splat(scale)), splat(offset)));
    }
    for (; i < stop; ++i) {
      const float product = bnb::load<float>(scales.nested_code, scales.codes[first + i]) * scale;
      buffer[i] = product + offset;
    }
  }
}

BNB_INLINE void e8m0_scales(const AbsmaxView &scales, int64_t first, int64_t count, float *buffer) {
  const uint8_t *codes = scales.codes + first;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store<F32>(buffer + i, decode_e8m0(load_uint8(codes + i)));
  if (i < count) store_some<F32>(buffer + i, decode_e8m0(load_uint8_some(codes + i, count - i)), count - i);
}

// tensor: their factor.
BNB_INLINE void e4m3_scales(const AbsmaxView &scales, float tensor, int64_t first, int64_t count, float *buffer) {
  const uint8_t *codes = scales.codes + first;
  const Floats factor = splat(tensor);
  const auto scale = [&](Shorts shorts) { return mul(decode(E4M3FN{}, shorts), factor); };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store<F32>(buffer + i, scale(load_int8_shorts(codes + i)));
  if (i < count) store_some<F32>(buffer + i, scale(load_int8_shorts_some(codes + i, count - i)), count - i);
}

// The scales of `count` <= kScalesAtOnce blocks from `first` on: where they are, or a copy in `buffer`.
BNB_INLINE const char *scales_of(const AbsmaxView &scales, int64_t first, int64_t count, float *buffer) {
  switch (scales.kind) {
    case ScaleKind::kF32:
      return static_cast<const char *>(scales.absmax) + first * 4;  // NULL where there are no blocks
    case ScaleKind::kNested: nested_scales(scales, first, count, buffer); break;
    case ScaleKind::kE8M0: e8m0_scales(scales, first, count, buffer); break;
    case ScaleKind::kE4M3FN: e4m3_scales(scales, scales.of_tensor(), first, count, buffer); break;
  }
  return reinterpret_cast<const char *>(buffer);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_SCALES_H_
