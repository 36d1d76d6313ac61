// SPDX-License-Identifier: MIT
// Scales of blocks as kernels of products read them: what AbsmaxView::at gives, the bits included, with what it looks up each time
// looked up once.
#ifndef BNB_GPU_SCALES_H_
#define BNB_GPU_SCALES_H_

#include "core/ops.h"
#include "gpu/vectors.h"

namespace bnb::gpu {

// i / divisor for 0 <= i < 2^31: with 2^s >= divisor, m = ceil(2^(31 + s) / divisor) is below 2^32 and m * divisor - 2^(31 + s)
// below 2^s, so that i * m / 2^(31 + s) is too large by less than 1 / divisor.
struct SmallDivisor {
  uint32_t multiplier = 0;
  int shift = 0;

  explicit SmallDivisor(int64_t divisor) {
    int s = 0;
    while ((int64_t(1) << s) < divisor) ++s;
    shift = 31 + s;
    multiplier = uint32_t(((__uint128_t(1) << shift) + __uint128_t(divisor) - 1) / __uint128_t(divisor));
  }
  BNB_DEVICE_METHOD int of(int i) const { return int((uint64_t(uint32_t(i)) * multiplier) >> shift); }
};

// E4M3FN moved into an fp32 whose exponent is 120 too low, subnormals included.
BNB_DEVICE float e4m3_to_float(uint32_t code) {
  const float x = formats::float_from_bits(((code & 0x80u) << 24) | ((code & 0x7Fu) << 20)) * 0x1p120f;
  return (code & 0x7Fu) == 0x7Fu ? formats::float_from_bits(0x7FC00000u) : x;
}

struct Scales {
  AbsmaxView view;
  Divisor nested_blocksize;

  explicit Scales(const AbsmaxView &scales) : view(scales), nested_blocksize(scales.nested_blocksize) {}
};

class ScaleReader {
 public:
  BNB_DEVICE_METHOD explicit ScaleReader(const Scales &scales) : scales_(scales) {
    const AbsmaxView &view = scales.view;
    aligned_ = reinterpret_cast<uintptr_t>(view.absmax) % sizeof(float) == 0;
    constant_ = view.kind == ScaleKind::kNested   ? load<float>(view.nested_offset, 0)
                : view.kind == ScaleKind::kE4M3FN ? view.of_tensor()
                                                  : 0.0f;
  }

  // NVFP4: what all of the tensor's scales are multiplied by; 1 for the others.
  BNB_DEVICE_METHOD float of_tensor() const { return scales_.view.kind == ScaleKind::kE4M3FN ? constant_ : 1.0f; }

  BNB_DEVICE_METHOD float at(int64_t block) const { return of_block(block) * of_tensor(); }

  // at() without of_tensor().
  BNB_DEVICE_METHOD float of_block(int64_t block) const {
    const AbsmaxView &view = scales_.view;
    if (view.kind == ScaleKind::kF32) {
      return aligned_ ? static_cast<const float *>(view.absmax)[block] : load<float>(view.absmax, block);
    }
    const uint32_t code = view.codes[block];
    if (view.kind == ScaleKind::kE8M0) {  // code 0 is subnormal
      return formats::float_from_bits(code == 0xFFu ? 0x7FC00000u : code == 0 ? 0x00400000u : code << 23);
    }
    if (view.kind == ScaleKind::kE4M3FN) return e4m3_to_float(code);
    const float product =
        load<float>(view.nested_code, code) * load<float>(view.nested_absmax, scales_.nested_blocksize.of(block));
    return product + constant_;
  }

 private:
  const Scales &scales_;
  float constant_;
  bool aligned_;
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_SCALES_H_
