// SPDX-License-Identifier: MIT
// Products of every shape with quantized weights of every format: tiles of dequantized weights and of activations in threadgroup memory,
// multiplied by fma in the order of columns. SUM, w_error 0.
#include "formats/e2m1.h"
#include "formats/fp4.h"
#include "formats/fp8.h"
#include "formats/nf4.h"
#include "metal/kernels/int8_codes.h"
#include "metal/kernels/scales.h"

// A tile of 64 by 64 outputs, 4 by 4 to a thread, 16 apart; 16 columns at a time, of which a thread decodes 4 of one row.
enum : int { kGemmThreads = 256, kGemmTile = 64, kGemmStep = 16, kOwn = 4, kApart = kGemmTile / kOwn, kPitch = kGemmTile + 1 };

inline float value_of_code(uint format, uint code) {
  if (format == kWeightsE4M3FN) return formats::fp8::decode<formats::fp8::E4M3FN>(uchar(code));
  if (format == kWeightsE5M2) return formats::fp8::decode<formats::fp8::E5M2>(uchar(code));
  if (code >= 16) return 0.0f;
  if (format == kWeightsNf4) return formats::nf4::decode(uchar(code));
  return format == kWeightsFp4 ? formats::fp4::decode(uchar(code)) : formats::e2m1::decode(uchar(code));
}

// Code i, whichever half of a byte it is in.
inline uint code_at(constant GemmArgs &args, device const uchar *b, long i) {
  if (args.weights >= kWeightsE4M3FN) return uint(b[i]);
  const uint byte = b[i / 2];
  return (i % 2 == 0) == (args.low_first != 0) ? byte & 15u : byte >> 4;
}

template <typename Tag>
kernel void multiply_any(constant GemmArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device const uchar *b [[buffer(2)]],
                         device const uchar *bias [[buffer(3)]], device uchar *out [[buffer(4)]],
                         device const uchar *scales [[buffer(5)]], device const uchar *nested_code [[buffer(6)]],
                         device const uchar *nested_absmax [[buffer(7)]], device const uchar *single [[buffer(8)]],
                         uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                         uint groups [[threadgroups_per_grid]]) {
  threadgroup float values[256];
  threadgroup float weights[kGemmStep * kPitch];
  threadgroup float activations[kGemmStep * kPitch];
  values[index] = value_of_code(args.weights, index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Scales from = {scales, nested_code, nested_absmax, single};
  const int thread_n = int(index) % kApart, thread_m = int(index) / kApart;
  const int row_of_tile = int(index) / kOwn, first = int(index) % kOwn * kOwn;  // what it decodes
  for (long tile = group; tile < args.tiles; tile += groups) {
    const long n0 = tile % args.tiles_n * kGemmTile, m0 = tile / args.tiles_n * kGemmTile, row = n0 + row_of_tile;
    float sum[kOwn * kOwn];
    BNB_UNROLL
    for (int i = 0; i < kOwn * kOwn; ++i) sum[i] = 0.0f;
    for (long k0 = 0; k0 < args.k; k0 += kGemmStep) {
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
            scale = scale_at(args.scales, from, block);
          }
          w = ieee::multiply(values[code_at(args, b, i + j)], scale);  // scales may be subnormal numbers
        }
        weights[(first + j) * kPitch + row_of_tile] = w;
      }
      BNB_UNROLL
      for (int j = 0; j < kOwn; ++j) {
        const int at = j * kGemmThreads + int(index), column = at % kGemmStep, m = at / kGemmStep;
        const bool there = k0 + column < args.k && m0 + m < args.m;
        activations[column * kPitch + m] = there ? load_float<Tag>(a, args.aligned_a != 0, (m0 + m) * args.a_stride + k0 + column) : 0.0f;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const int columns = args.k - k0 < kGemmStep ? int(args.k - k0) : int(kGemmStep);
      for (int column = 0; column < columns; ++column) {
        BNB_UNROLL
        for (int p = 0; p < kOwn; ++p) {
          const float x = activations[column * kPitch + thread_m + p * kApart];
          BNB_UNROLL
          for (int q = 0; q < kOwn; ++q) {
            sum[p * kOwn + q] = fma(x, weights[column * kPitch + thread_n + q * kApart], sum[p * kOwn + q]);
          }
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    BNB_UNROLL
    for (int p = 0; p < kOwn; ++p) {
      BNB_UNROLL
      for (int q = 0; q < kOwn; ++q) {
        const long m = m0 + thread_m + p * kApart, n = n0 + thread_n + q * kApart;
        if (m >= args.m || n >= args.n) continue;
        const float added = args.bias.dtype == kNoBias ? 0.0f : load_any_float(args.bias, bias, n);
        store_float<Tag>(out, args.aligned_out != 0, m * args.out_stride + n, sum[p * kOwn + q] + added);
      }
    }
  }
}

BNB_FLOAT_KERNELS("multiply_any", multiply_any)
