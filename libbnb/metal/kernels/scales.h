// SPDX-License-Identifier: MIT
// The scale of a block, however it is stored: what bnb::AbsmaxView is to other backends.
#ifndef BNB_METAL_KERNELS_SCALES_H_
#define BNB_METAL_KERNELS_SCALES_H_

#include "formats/mx.h"
#include "metal/kernels/args.h"
#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace bnb {
namespace kernels {

enum ScaleKind : uint { kScaleF32 = 0, kScaleNested = 1, kScaleE8M0 = 2, kScaleE4M3FN = 3 };

struct Scales {
  device const uchar *scales;         // fp32 absmax, or codes of bytes
  device const uchar *nested_code;    // fp32 [256]
  device const uchar *nested_absmax;  // fp32
  device const uchar *single;         // fp32 [1]: the offset of nested ones, or the scale of the tensor
};

// What is the same for all scales: the offset of nested ones, NVFP4's scale of the tensor.
inline float common_scale(constant ScaleArgs &args, Scales from) {
  const bool has = args.kind == kScaleNested || (args.kind == kScaleE4M3FN && args.has_tensor_scale != 0);
  return has ? load_f32(from.single, false, 0) : 1.0f;
}

// common: common_scale(), of which a kernel that reads many scales keeps what it got.
inline float scale_at(constant ScaleArgs &args, Scales from, float common, long block) {
  const bool aligned = args.aligned != 0;
  if (args.kind == kScaleF32) return load_f32(from.scales, aligned, block);
  const uchar code = from.scales[block];
  if (args.kind == kScaleE8M0) return formats::e8m0::decode(code);
  if (args.kind == kScaleE4M3FN) return ieee::multiply(formats::fp8::decode<formats::fp8::E4M3FN>(code), common);
  const float absmax = load_f32(from.nested_absmax, aligned, quotient(block, args.nested_blocksize));
  return ieee::add(ieee::multiply(load_f32(from.nested_code, aligned, long(code)), absmax), common);
}
inline float scale_at(constant ScaleArgs &args, Scales from, long block) { return scale_at(args, from, common_scale(args, from), block); }

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_SCALES_H_
