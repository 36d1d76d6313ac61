// SPDX-License-Identifier: MIT
// The 8-bit format of quantize_blocks.h: the nearest of 256 values.
#ifndef BNB_GPU_ENCODE_NEAREST_H_
#define BNB_GPU_ENCODE_NEAREST_H_

#include "gpu/nearest_code.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {

struct EncodeNearest {
  struct Args {
    const void *code;  // fp32 [256], ascending
  };
  using Shared = NearestCode;

  const Shared &nearest;

  BNB_DEVICE_METHOD EncodeNearest(const Args &args, Shared &to_fill) : nearest(to_fill) { to_fill.fill(args.code); }
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit) const {
    uint8_t codes[kItems];
    if (nearest.dense) {  // the same for all threads
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) codes[j] = uint8_t(nearest.search(unit[j]));
    } else {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) {
        const bool number = unit[j] == unit[j];  // NaN is above no midpoint, and in no bucket
        const uint32_t code = nearest.look_up(number ? unit[j] : 0.0f);
        codes[j] = uint8_t(number ? code : 0);
      }
    }
    store_bytes<kItems>(out, i, count, codes);
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_ENCODE_NEAREST_H_
