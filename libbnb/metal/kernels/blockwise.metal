// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: the nearest of 256 values, by halving the fp32 midpoints between them. EXACT.
#include "metal/kernels/quantize_blocks.h"
#include "metal/kernels/scales.h"

using namespace bnb::kernels;

enum : uint { kCodes = 256 };

struct NearestCode {
  enum : int { kShared = 256 };  // midpoints as order_of() has them; the last one is above everything

  static inline void fill(threadgroup int *shared, device const uchar *code, uint index) {
    for (uint i = index; i < kCodes; i += kQuantizeThreads) {
      if (i + 1 < kCodes) {
        const float sum = add(load_f32(code, false, i), load_f32(code, false, i + 1));
        shared[i] = order_of(multiply(sum, 0.5f));
      } else {
        shared[i] = 0x7F800000;
      }
    }
  }
  static inline float scale_of(float absmax) { return absmax; }

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
    for (int j = 0; j < kItems; ++j) codes[j] = encode(shared, unit[j]);
    store_bytes<kItems>(out, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_blockwise_regular", quantize_regular, NearestCode)
BNB_FLOAT_KERNELS_WITH("quantize_blockwise_any", encode_any, NearestCode)

template <typename Tag>
kernel void dequantize(constant DequantizeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                       device const uchar *code [[buffer(2)]], device uchar *out [[buffer(3)]],
                       device const uchar *scales [[buffer(4)]], device const uchar *nested_code [[buffer(5)]],
                       device const uchar *nested_absmax [[buffer(6)]], device const uchar *single [[buffer(7)]],
                       uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]]) {
  threadgroup float values[kCodes];
  for (uint i = index; i < kCodes; i += kQuantizeThreads) values[i] = load_f32(code, false, i);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Scales from = {scales, nested_code, nested_absmax, single};
  for (long tile = group; tile * kTile < args.n; tile += groups) {
    const long i = tile * kTile + long(index) * kItems;
    if (i >= args.n) continue;
    uchar codes[kItems];
    load_bytes<kItems>(a, args.aligned_in != 0, i, args.n - i, codes);
    float x[kItems];
    long block = quotient(i, args.blocksize), end = (block + 1) * args.blocksize.value;
    float absmax = scale_at(args.scales, from, block);
    for (int j = 0; j < kItems; ++j) {
      if (i + j == end && i + j < args.n) {
        absmax = scale_at(args.scales, from, ++block);
        end += args.blocksize.value;
      }
      x[j] = multiply(values[codes[j]], absmax);
    }
    store_floats<Tag>(out, args.aligned_out != 0, i, args.n - i, x);
  }
}

BNB_FLOAT_KERNELS("dequantize_blockwise", dequantize)
