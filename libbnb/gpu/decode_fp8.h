// SPDX-License-Identifier: MIT
// The decoder of FP8 codes for dequantize_blocks(): of tensors in FP8 and in MXFP8.
#ifndef BNB_GPU_DECODE_FP8_H_
#define BNB_GPU_DECODE_FP8_H_

#include "gpu/dequantize_blocks.h"
#include "gpu/fp8_codes.h"

namespace bnb::gpu {

template <typename Format>
struct DecodeFp8 {
  struct Args {
    const uint8_t *a;
  };
  struct Shared {};

  const uint8_t *a;

  BNB_DEVICE_METHOD DecodeFp8(const Args &args, Shared &) : a(args.a) {}
  BNB_DEVICE_METHOD void read(int64_t i, int64_t count, float *x) const {
    uint32_t codes[kDecodeItems / 4];
    load_words<kDecodeItems / 4>(a, i, count, codes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems / 4; ++j) values_of_fp8<Format>(codes[j], x + 4 * j);
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_DECODE_FP8_H_
