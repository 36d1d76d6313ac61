// SPDX-License-Identifier: MIT
// Products of int8 rows with ternary weights: EXACT with one scale for a row, else SUM, sums of blocks being exact.
#include "metal/kernels/int8_few.h"
#include "metal/kernels/int8_tiles.h"

// Blocks with scales of any size: tiles of 64 by 64 outputs, 4 by 4 to a thread, 16 apart; 16 columns at a time, multiplied as integers.
enum : int { kAnyStep = 16, kAnyPitch = kAnyTile + 1, kOwn = 4, kApart = kAnyTile / kOwn };

// Scales what a thread has of a block.
inline void end_block(constant Int8ProductArgs &args, Int8Buffers from, long n, long block, thread int *sums, thread float *values) {
  BNB_UNROLL
  for (int q = 0; q < kOwn; ++q) {
    const long row = smaller(n + q * kApart, args.n - 1);
    const float scale = TwoBitWeights<1>::block_scale(args, from, row, block);
    BNB_UNROLL
    for (int p = 0; p < kOwn; ++p) {
      values[p * kOwn + q] = fma(float(sums[p * kOwn + q]), scale, values[p * kOwn + q]);
      sums[p * kOwn + q] = 0;
    }
  }
}

kernel void any_two_bit_blocks(constant Int8ProductArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                               device const uchar *b [[buffer(2)]], device const uchar *scale [[buffer(3)]],
                               device const uchar *row_stats [[buffer(4)]], device const uchar *bias [[buffer(5)]],
                               device const uchar *x [[buffer(6)]], device const uchar *list [[buffer(7)]],
                               device const uint *count [[buffer(8)]], device uchar *out [[buffer(9)]],
                               uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                               uint groups [[threadgroups_per_grid]]) {
  threadgroup int activations[kAnyStep * kAnyPitch];
  threadgroup int weights[kAnyStep * kAnyPitch];
  const Int8Buffers from = {a, b, scale, row_stats, bias, x, list, count, out};
  const int thread_n = int(index) % kApart, thread_m = int(index) / kApart, column_of_tile = int(index) % kAnyStep;
  for (long tile = group; tile < args.tiles; tile += groups) {
    const long m0 = tile % args.tiles_m * kAnyTile, n0 = tile / args.tiles_m * kAnyTile;
    int sums[kOwn * kOwn];
    float values[kOwn * kOwn];
    BNB_UNROLL
    for (int i = 0; i < kOwn * kOwn; ++i) sums[i] = 0, values[i] = 0.0f;
    long left = args.block.value, block = 0;  // columns of the running block, and which it is
    for (long k = 0; k < args.k; k += kAnyStep) {
      const long at = k + column_of_tile;
      BNB_UNROLL
      for (int j = 0; j < kAnyTile * kAnyStep / kAnyThreads; ++j) {
        const int own = int(index) / kAnyStep + j * (kAnyThreads / kAnyStep);
        const long i = (n0 + own) * args.k + at;
        const bool of_a = at < args.k && m0 + own < args.m, of_b = at < args.k && n0 + own < args.n;
        activations[column_of_tile * kAnyPitch + own] = of_a ? int(as_type<char>(a[(m0 + own) * args.a_stride + at])) : 0;
        const uchar code = of_b ? formats::ternary::TwoBits::code(b[i / 4], int(i % 4)) : uchar(formats::ternary::kZeroCode);
        weights[column_of_tile * kAnyPitch + own] = formats::ternary::value(code);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const int columns = int(smaller(args.k - k, long(kAnyStep)));
      for (int column = 0; column < columns; ++column) {
        BNB_UNROLL
        for (int p = 0; p < kOwn; ++p) {
          const int of_row = activations[column * kAnyPitch + thread_m + p * kApart];
          BNB_UNROLL
          for (int q = 0; q < kOwn; ++q) sums[p * kOwn + q] += of_row * weights[column * kAnyPitch + thread_n + q * kApart];
        }
        if (--left == 0) {
          end_block(args, from, n0 + thread_n, block++, sums, values);
          left = args.block.value;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    BNB_UNROLL
    for (int p = 0; p < kOwn; ++p) {
      BNB_UNROLL
      for (int q = 0; q < kOwn; ++q) {
        const long m = m0 + thread_m + p * kApart, n = n0 + thread_n + q * kApart;
        if (m < args.m && n < args.n) {
          store_value(args, from, m, n, scaled_sum_of<TwoBitWeights<1> >(args, from, values[p * kOwn + q], m, n));
        }
      }
    }
  }
}

BNB_KERNEL("few_rows_1_two_bits", multiply_few<TwoBitWeights<0>, 1>)
BNB_KERNEL("few_rows_2_two_bits", multiply_few<TwoBitWeights<0>, 2>)
BNB_KERNEL("few_rows_4_two_bits", multiply_few<TwoBitWeights<0>, 4>)
BNB_KERNEL("few_rows_8_two_bits", multiply_few<TwoBitWeights<0>, 8>)
BNB_KERNEL("tiles_16_two_bits", multiply_tiles<TwoBitWeights<0>, 16>)
BNB_KERNEL("tiles_64_two_bits", multiply_tiles<TwoBitWeights<0>, 64>)
BNB_KERNEL("few_rows_1_two_bit_blocks", multiply_few<TwoBitWeights<1>, 1>)
BNB_KERNEL("few_rows_2_two_bit_blocks", multiply_few<TwoBitWeights<1>, 2>)
BNB_KERNEL("few_rows_4_two_bit_blocks", multiply_few<TwoBitWeights<1>, 4>)
BNB_KERNEL("few_rows_8_two_bit_blocks", multiply_few<TwoBitWeights<1>, 8>)
BNB_KERNEL("tiles_16_two_bit_blocks", multiply_tiles<TwoBitWeights<1>, 16>)
BNB_KERNEL("tiles_64_two_bit_blocks", multiply_tiles<TwoBitWeights<1>, 64>)
BNB_KERNEL("few_rows_1_tq1", multiply_few<TqWeights<StepTQ1>, 1>)
BNB_KERNEL("few_rows_2_tq1", multiply_few<TqWeights<StepTQ1>, 2>)
BNB_KERNEL("few_rows_4_tq1", multiply_few<TqWeights<StepTQ1>, 4>)
BNB_KERNEL("few_rows_8_tq1", multiply_few<TqWeights<StepTQ1>, 8>)
BNB_KERNEL("tiles_16_tq1", multiply_tiles<TqWeights<StepTQ1>, 16>)
BNB_KERNEL("tiles_64_tq1", multiply_tiles<TqWeights<StepTQ1>, 64>)
BNB_KERNEL("few_rows_1_tq2", multiply_few<TqWeights<StepTQ2>, 1>)
BNB_KERNEL("few_rows_2_tq2", multiply_few<TqWeights<StepTQ2>, 2>)
BNB_KERNEL("few_rows_4_tq2", multiply_few<TqWeights<StepTQ2>, 4>)
BNB_KERNEL("few_rows_8_tq2", multiply_few<TqWeights<StepTQ2>, 8>)
BNB_KERNEL("tiles_16_tq2", multiply_tiles<TqWeights<StepTQ2>, 16>)
BNB_KERNEL("tiles_64_tq2", multiply_tiles<TqWeights<StepTQ2>, 64>)
