// SPDX-License-Identifier: MIT
// Nested absmax: its mean, which is a sum in float64 in an order of its own (sum_pieces, mean_of_pieces), and its values. The codes are
// those of blockwise quantization. EXACT.
#include "metal/kernels/float64.h"
#include "metal/kernels/scales.h"

enum : int { kThreads = 256, kPiece = 1024, kPieceLanes = 16, kPiecesAtOnce = kThreads / kPieceLanes };

// sums[p] = the sum of elements [1024 p, 1024 p + 1024): element i goes to lane i % 16, then lanes are added in order.
kernel void sum_pieces(constant NestedSumArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device ulong *sums [[buffer(2)]],
                       uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]]) {
  threadgroup ulong lanes[kThreads];
  for (long first = long(group) * kPiecesAtOnce; first < args.pieces; first += long(groups) * kPiecesAtOnce) {
    const long piece = first + index / kPieceLanes, end = (piece + 1) * kPiece < args.n ? (piece + 1) * kPiece : args.n;
    Float64 sum = 0;
    for (long i = piece * kPiece + index % kPieceLanes; i < end; i += kPieceLanes) {
      sum = f64_add(sum, f64_from_float(load_f32(a, args.aligned != 0, i)));
    }
    lanes[index] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (index % kPieceLanes == 0 && piece < args.pieces) {
      Float64 all = 0;
      for (uint lane = 0; lane < uint(kPieceLanes); ++lane) all = f64_add(all, lanes[index + lane]);
      sums[piece] = all;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

// One thread: pieces are added in order.
kernel void mean_of_pieces(constant NestedSumArgs &args [[buffer(0)]], device const ulong *sums [[buffer(1)]],
                           device uchar *mean [[buffer(2)]], uint index [[thread_position_in_grid]]) {
  if (index != 0) return;
  Float64 sum = 0;
  for (long piece = 0; piece < args.pieces; ++piece) sum = f64_add(sum, sums[piece]);
  store_f32(mean, false, 0, args.n != 0 ? f64_to_float(f64_divide(sum, f64_from_long(args.n))) : 0.0f);
}

kernel void dequantize_nested(constant NestedArgs &args [[buffer(0)]], device uchar *out [[buffer(1)]],
                              device const uchar *codes [[buffer(2)]], device const uchar *nested_code [[buffer(3)]],
                              device const uchar *nested_absmax [[buffer(4)]], device const uchar *single [[buffer(5)]],
                              uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                              uint groups [[threadgroups_per_grid]]) {
  const Scales from = {codes, nested_code, nested_absmax, single};
  for (long i = long(group) * kThreads + index; i < args.n; i += long(groups) * kThreads) {
    store_f32(out, args.aligned_out != 0, i, scale_at(args.scales, from, i));
  }
}
