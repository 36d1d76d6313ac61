// SPDX-License-Identifier: MIT
// The 8-bit format of quantize_blocks.h: the nearest of 256 values.
#ifndef BNB_GPU_ENCODE_NEAREST_H_
#define BNB_GPU_ENCODE_NEAREST_H_

#include "gpu/code_table.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {

struct EncodeNearest {
  struct Args {
    const void *code;  // fp32 [256], ascending
  };
  using Shared = CodeTable;

  const Shared &table;

  BNB_DEVICE_METHOD EncodeNearest(const Args &args, Shared &to_fill) : table(to_fill) { to_fill.fill(args.code); }
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit, bool numbers) const {
    uint32_t codes[kItems / 4] = {};
    if (numbers && table.has_entries()) {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) codes[j / 4] |= table.look_up(unit[j]) << (j % 4 * 8);
    } else {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) codes[j / 4] |= table.search(unit[j]) << (j % 4 * 8);
    }
    store_words<kItems / 4>(out, i, count, codes);
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_ENCODE_NEAREST_H_
