// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: the nearest of 256 values, by halving the fp32 midpoints between them. EXACT.
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/nearest_code.h"
#include "metal/kernels/quantize_blocks.h"

struct NearestCode {
  enum : int { kShared = kCodes };

  static inline void fill(threadgroup int *shared, device const uchar *code, uint index) {
    for (uint i = index; i < uint(kCodes); i += kQuantizeThreads) shared[i] = midpoint_order(code, i);
  }
  static inline float scale_of(float absmax) { return absmax; }
  static inline float infinite() { return 1.0f; }

  static inline void write(threadgroup const int *shared, device uchar *out, bool aligned, long i, long count,
                           thread const float *unit) {
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = uchar(search_code(shared, unit[j]));
    store_bytes<kItems>(out, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_blockwise_regular", quantize_regular, NearestCode)
BNB_FLOAT_KERNELS_WITH("quantize_blockwise_any", encode_any, NearestCode)

// Without scaling: the nearest code of each number.
kernel void nearest_code(constant ArrayArgs &args [[buffer(0)]], device const uchar *code [[buffer(1)]],
                         device const uchar *a [[buffer(2)]], device uchar *out [[buffer(3)]],
                         uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                         uint groups [[threadgroups_per_grid]]) {
  threadgroup int shared[NearestCode::kShared];
  NearestCode::fill(shared, code, index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (long i = (long(group) * kQuantizeThreads + index) * kItems; i < args.n; i += long(groups) * kQuantizeThreads * kItems) {
    float x[kItems];
    load_floats<F32>(a, args.aligned_a != 0, i, args.n - i, x);
    NearestCode::write(shared, out, args.aligned_b != 0, i, args.n - i, x);
  }
}

struct AnyCode {
  enum : int { kValues = 256 };
  static inline float value(device const uchar *code, uint i) { return load_f32(code, false, i); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_bytes<kItems>(a, aligned, i, count, codes);
  }
};

BNB_FLOAT_KERNELS_WITH("dequantize_blockwise", dequantize_blocks, AnyCode)
