// SPDX-License-Identifier: MIT
// FP8 with one scale per block: absmax of the block becomes the largest number of the format. EXACT.
#include "formats/fp8.h"
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/quantize_blocks.h"

template <typename Format>
struct Fp8 {
  enum : int { kShared = 1, kValues = 256 };

  static inline void fill(threadgroup int *, device const uchar *, uint) {}
  static inline float scale_of(float absmax) { return ieee::divide(absmax, Format::max_finite()); }
  static inline float infinite() { return Format::max_finite(); }
  static inline void write(threadgroup const int *, device uchar *out, bool aligned, long i, long count, thread const float *unit) {
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = formats::fp8::encode<Format>(unit[j]);
    store_bytes<kItems>(out, aligned, i, count, codes);
  }

  static inline float value(device const uchar *, uint i) { return formats::fp8::decode<Format>(uchar(i)); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_bytes<kItems>(a, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_e4m3fn_regular", quantize_regular, Fp8<formats::fp8::E4M3FN>)
BNB_FLOAT_KERNELS_WITH("quantize_e4m3fn_any", encode_any, Fp8<formats::fp8::E4M3FN>)
BNB_FLOAT_KERNELS_WITH("dequantize_e4m3fn", dequantize_blocks, Fp8<formats::fp8::E4M3FN>)
BNB_FLOAT_KERNELS_WITH("quantize_e5m2_regular", quantize_regular, Fp8<formats::fp8::E5M2>)
BNB_FLOAT_KERNELS_WITH("quantize_e5m2_any", encode_any, Fp8<formats::fp8::E5M2>)
BNB_FLOAT_KERNELS_WITH("dequantize_e5m2", dequantize_blocks, Fp8<formats::fp8::E5M2>)
