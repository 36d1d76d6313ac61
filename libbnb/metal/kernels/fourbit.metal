// SPDX-License-Identifier: MIT
// NF4 and FP4. EXACT.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/nibbles.h"
#include "metal/kernels/quantize_blocks.h"

struct Nf4 {
  enum : int { kShared = 16, kValues = 16 };  // thresholds as order_of() has them
  enum : uchar { kZero = formats::nf4::kZeroCode };

  static inline void fill(threadgroup int *shared, uint i) {
    if (i < 15) shared[i] = order_of(float_from_bits(formats::nf4::kThresholdBits[i]));
    if (i == 15) shared[i] = 0x7FFFFFFF;
  }
  // The number of thresholds strictly below; NaN gives 0.
  static inline uchar encode(threadgroup const int *shared, float unit) {
    const int order = order_of(unit);
    uint code = 0;
    for (uint step = 8; step > 0; step /= 2) code += order > shared[code + step - 1] ? step : 0u;
    return uchar(code);
  }
  static inline float decode(uint code) { return formats::nf4::decode(uchar(code)); }
};

struct Fp4 {
  enum : int { kShared = 16, kValues = 16 };  // thresholds of magnitudes, then the codes of ranks
  enum : uchar { kZero = formats::fp4::kZeroCode };

  static inline void fill(threadgroup int *shared, uint i) {
    if (i < 7) shared[i] = int(formats::fp4::kThresholdBits[i]);
    if (i == 7) shared[i] = 0x7FFFFFFF;
    if (i >= 8 && i < 16) shared[i] = int(formats::fp4::kMagnitudeCode[i - 8]);
  }
  // The sign is in the bits: a GPU may take a subnormal number for zero.
  static inline uchar encode(threadgroup const int *shared, float unit) {
    const uint bits = bits_from_float(unit), magnitude = bits & ~uint(kSignBit);
    if (magnitude > kInfinityBits || magnitude == 0) return 0;
    uint rank = 0;
    for (uint step = 4; step > 0; step /= 2) rank += int(magnitude) > shared[rank + step - 1] ? step : 0u;
    return uchar(uint(shared[8 + rank]) | (bits != magnitude ? 8u : 0u));
  }
  static inline float decode(uint code) { return formats::fp4::decode(uchar(code)); }
};

template <typename Format>
struct FourBit {
  enum : int { kShared = Format::kShared, kValues = Format::kValues };

  static inline void fill(threadgroup int *shared, device const uchar *, uint index) { Format::fill(shared, index); }
  static inline float scale_of(float absmax) { return absmax; }
  static inline float infinite() { return 1.0f; }
  static inline void write(threadgroup const int *shared, device uchar *out, bool aligned, long i, long count, thread const float *unit) {
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = j < count ? Format::encode(shared, unit[j]) : uchar(Format::kZero);
    store_nibbles<true>(out, aligned, i, count, codes);
  }

  static inline float value(device const uchar *, uint i) { return Format::decode(i); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_nibbles<true>(a, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_nf4_regular", quantize_regular, FourBit<Nf4>)
BNB_FLOAT_KERNELS_WITH("quantize_nf4_any", encode_any, FourBit<Nf4>)
BNB_FLOAT_KERNELS_WITH("dequantize_nf4", dequantize_blocks, FourBit<Nf4>)
BNB_FLOAT_KERNELS_WITH("quantize_fp4_regular", quantize_regular, FourBit<Fp4>)
BNB_FLOAT_KERNELS_WITH("quantize_fp4_any", encode_any, FourBit<Fp4>)
BNB_FLOAT_KERNELS_WITH("dequantize_fp4", dequantize_blocks, FourBit<Fp4>)
