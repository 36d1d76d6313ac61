// SPDX-License-Identifier: MIT
// Products of every shape with quantized weights of every format: tiles of dequantized weights and of activations in threadgroup memory,
// multiplied by fma in the order of columns. SUM, w_error 0.
#include "metal/kernels/product_shapes.h"
#include "metal/kernels/weights.h"

// A tile of kAnyTile columns, a sixteenth of its rows and columns to a thread; 16 columns of weights at a time, of which a thread decodes
// 4 of one row.
enum : int { kAnyStep = 16, kOwn = 4, kApart = kAnyTile / kOwn, kAnyPitch = kAnyTile + 1 };

// Code i, whichever half of a byte it is in.
inline uint code_at(constant GemmArgs &args, device const uchar *b, long i) {
  if (args.weights >= kWeightsE4M3FN) return uint(b[i]);
  const uint byte = b[i / 2];
  return (i % 2 == 0) == (args.low_first != 0) ? byte & 15u : byte >> 4;
}

template <int kRows, typename Tag>
kernel void multiply_any(constant GemmArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device const uchar *b [[buffer(2)]],
                         device const uchar *bias [[buffer(3)]], device uchar *out [[buffer(4)]],
                         device const uchar *scales [[buffer(5)]], device const uchar *nested_code [[buffer(6)]],
                         device const uchar *nested_absmax [[buffer(7)]], device const uchar *single [[buffer(8)]],
                         uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                         uint groups [[threadgroups_per_grid]]) {
  threadgroup float values[256];
  threadgroup float weights[kAnyStep * kAnyPitch];
  threadgroup float activations[kAnyStep * (kRows + 1)];
  enum : int { kOwnRows = kRows / kApart, kPitch = kRows + 1 };
  if (args.weights >= kWeightsE4M3FN) {
    fill_values<Bytes>(args, values, index, kAnyThreads);
  } else {
    fill_values<Nibbles>(args, values, index, kAnyThreads);
  }
  const Scales from = {scales, nested_code, nested_absmax, single};
  const float common = common_scale(args.scales, from);
  const GemmOutputs<Tag> outputs = {&args, bias, out, 1.0f};
  const int thread_n = int(index) % kApart, thread_m = int(index) / kApart;
  const int row_of_tile = int(index) / kOwn, first = int(index) % kOwn * kOwn;  // what it decodes
  for (long tile = group; tile < args.tiles; tile += groups) {
    const long m0 = tile % args.tiles_m * kRows, n0 = tile / args.tiles_m * kAnyTile, row = n0 + row_of_tile;
    float sum[kOwnRows * kOwn];
    BNB_UNROLL
    for (int i = 0; i < kOwnRows * kOwn; ++i) sum[i] = 0.0f;
    for (long k0 = 0; k0 < args.k; k0 += kAnyStep) {
      const long i = row * args.k + k0 + first;
      long end = 0, block = -1;
      float scale = 0.0f;
      BNB_UNROLL
      for (int j = 0; j < kOwn; ++j) {
        float w = 0.0f;
        if (row < args.n && k0 + first + j < args.k) {
          if (i + j >= end) {
            block = block < 0 ? quotient(i, args.blocksize) : block + 1;
            end = (block + 1) * args.blocksize.value;
            scale = scale_at(args.scales, from, common, block);
          }
          w = ieee::multiply(values[code_at(args, b, i + j)], scale);  // scales may be subnormal numbers
        }
        weights[(first + j) * kAnyPitch + row_of_tile] = w;
      }
      BNB_UNROLL
      for (int j = 0; j < kOwnRows; ++j) {
        const int at = j * kAnyThreads + int(index), column = at % kAnyStep, m = at / kAnyStep;
        const bool there = k0 + column < args.k && m0 + m < args.m;
        activations[column * kPitch + m] = there ? load_float<Tag>(a, args.aligned_a != 0, (m0 + m) * args.a_stride + k0 + column) : 0.0f;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const int columns = args.k - k0 < kAnyStep ? int(args.k - k0) : int(kAnyStep);
      for (int column = 0; column < columns; ++column) {
        BNB_UNROLL
        for (int p = 0; p < kOwnRows; ++p) {
          const float x = activations[column * kPitch + thread_m + p * kApart];
          BNB_UNROLL
          for (int q = 0; q < kOwn; ++q) {
            sum[p * kOwn + q] = fma(x, weights[column * kAnyPitch + thread_n + q * kApart], sum[p * kOwn + q]);
          }
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    BNB_UNROLL
    for (int p = 0; p < kOwnRows; ++p) {
      BNB_UNROLL
      for (int q = 0; q < kOwn; ++q) {
        outputs.store(m0 + thread_m + p * kApart, n0 + thread_n + q * kApart, sum[p * kOwn + q]);
      }
    }
  }
}

BNB_FLOAT_KERNELS_WITH("any_16", multiply_any, 16)
BNB_FLOAT_KERNELS_WITH("any_64", multiply_any, 64)
