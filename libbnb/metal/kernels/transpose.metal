// SPDX-License-Identifier: MIT
// What bitsandbytes' int8 products need beside the product: operands the other way round, sums as int8. EXACT.
#include "metal/kernels/floats.h"
#include "metal/kernels/int8_codes.h"

enum : int {
  kThreads = 256,
  kSide = 64,         // of a tile, which a threadgroup turns in its memory
  kPitch = kSide + 4  // neighbouring rows begin in other banks
};

kernel void transpose_int8(constant TransposeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                           device uchar *out [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                           uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  threadgroup uchar tile[kSide * kPitch];
  const int line = int(index) / (kSide / kItems), first = int(index) % (kSide / kItems) * kItems;
  for (long i = group; i < args.tiles; i += groups) {
    const long down = quotient(i, args.across), row = down * kSide, col = (i - down * args.across.value) * kSide;
    uchar bytes[kItems];
    if (row + line < args.rows && col + first < args.cols) {
      load_bytes<kItems>(a, args.aligned_a != 0, (row + line) * args.a_stride + col + first, args.cols - col - first, bytes);
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) tile[line * kPitch + first + j] = bytes[j];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (col + line < args.cols && row + first < args.rows) {
      const long count = args.rows - row - first;
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) bytes[j] = j < count ? tile[(first + j) * kPitch + line] : uchar(0);
      store_bytes<kItems>(out, args.aligned_out != 0, (col + line) * args.rows + row + first, count, bytes);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

// A sum times the scale of its column, half to even, -128 to 127.
kernel void saturate_int8(constant SaturateArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                          device const uchar *scales [[buffer(2)]], device uchar *out [[buffer(3)]],
                          uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                          uint groups [[threadgroups_per_grid]]) {
  for (long i = long(group) * kThreads + index; i < args.pieces; i += long(groups) * kThreads) {
    const long row = quotient(i, args.across), col = (i - row * args.across.value) * kItems, count = args.cols - col;
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      if (j >= count) {
        codes[j] = 0;
        continue;
      }
      const float sum = float(int(load_32(a, args.aligned_in != 0, row * args.cols + col + j)));
      const float x = args.has_scales != 0 ? ieee::multiply(sum, load_f32(scales, args.aligned_scales != 0, col + j)) : sum;
      codes[j] = uchar(saturated_code(x, -128.0f));
    }
    store_bytes<kItems>(out, args.aligned_out != 0, row * args.out_stride + col, count, codes);
  }
}
