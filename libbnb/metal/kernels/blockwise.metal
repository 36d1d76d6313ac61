// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: the nearest of 256 values, by halving the fp32 midpoints between them. EXACT.
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/quantize_blocks.h"

enum : uint { kCodes = 256 };

struct NearestCode {
  enum : int { kShared = 256 };  // midpoints as order_of() has them; the last one is above everything

  static inline void fill(threadgroup int *shared, device const uchar *code, uint index) {
    for (uint i = index; i < kCodes; i += kQuantizeThreads) {
      if (i + 1 < kCodes) {
        const float sum = ieee::add(load_f32(code, false, i), load_f32(code, false, i + 1));
        shared[i] = order_of(ieee::multiply(sum, 0.5f));
      } else {
        shared[i] = 0x7F800000;
      }
    }
  }
  static inline float scale_of(float absmax) { return absmax; }
  static inline float infinite() { return 1.0f; }

  // The number of midpoints strictly below; NaN gives 0.
  static inline uchar encode(threadgroup const int *shared, float unit) {
    const int order = order_of(unit);
    uint code = 0;
    for (uint step = kCodes / 2; step > 0; step /= 2) code += order > shared[code + step - 1] ? step : 0u;
    return uchar(code);
  }
  static inline void write(threadgroup const int *shared, device uchar *out, bool aligned, long i, long count,
                           thread const float *unit) {
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = encode(shared, unit[j]);
    store_bytes<kItems>(out, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_blockwise_regular", quantize_regular, NearestCode)
BNB_FLOAT_KERNELS_WITH("quantize_blockwise_any", encode_any, NearestCode)

struct AnyCode {
  enum : int { kValues = 256 };
  static inline float value(device const uchar *code, uint i) { return load_f32(code, false, i); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_bytes<kItems>(a, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("dequantize_blockwise", dequantize_blocks, AnyCode)
