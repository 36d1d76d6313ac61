// SPDX-License-Identifier: MIT
// int8 products by matrices of simdgroups: tiles of outputs, for which 32 columns of both sides at a time become half in threadgroup
// memory. int8 and small integers are exact in half, products and so many sums of them (kExact) in the float that matrices are summed
// in. Then, and where a block with a scale ends, a simdgroup's sums go through threadgroup memory to lanes, each of which has one column
// of the output.
#ifndef BNB_METAL_KERNELS_INT8_TILES_H_
#define BNB_METAL_KERNELS_INT8_TILES_H_

#include "metal/kernels/int8_weights.h"
#include "metal/kernels/matrix_tiles.h"

namespace bnb {
namespace kernels {

enum : int { kPart = 8 * kLanes };  // what goes through threadgroup memory at once: 8 rows of a simdgroup's outputs

// Columns k to k + 31 of some rows from `first` on, zeros past the last column; rows that are not there are the last one. All threads.
template <typename Tile>
inline void fill_activations(constant Int8ProductArgs &args, Int8Buffers from, long first, int rows, long k, uint index,
                             threadgroup half *tile) {
  for (int i = int(index); i < 2 * rows; i += kMatrixThreads) {
    const long row = first + i / 2 < args.m ? first + i / 2 : args.m - 1, at = k + i % 2 * 16;
    const uint4 words = load_sixteen(from.a + row * args.a_stride, args.aligned_a != 0, at, args.k - at);
    threadgroup half *to = tile + i / 2 * Tile::kPitch + i % 2 * 16;
    BNB_UNROLL
    for (int w = 0; w < 4; ++w) {
      float x[4];
      floats_of_bytes(words[w], x);
      BNB_UNROLL
      for (int j = 0; j < 4; ++j) to[4 * w + j] = half(x[j]);
    }
  }
}
template <typename Tile, typename Weights>
inline void fill_weights(constant Int8ProductArgs &args, Int8Buffers from, long first, long k, uint index, threadgroup half *tile) {
  const int own = int(index) / 2;
  const long row = first + own < args.n ? first + own : args.n - 1, at = k + long(index % 2) * 16;
  threadgroup half *to = tile + own * Tile::kPitch + int(index % 2) * 16;
  float numbers[16];
  BNB_UNROLL
  for (int j = 0; j < 16; ++j) numbers[j] = 0.0f;
  if (at < args.k) Weights::sixteen(args, from, row, at, numbers);
  BNB_UNROLL
  for (int j = 0; j < 16; ++j) to[j] = half(Weights::times() * numbers[j] + Weights::plus());
}

// What a lane has of the outputs of its simdgroup: one column of kHigh * 8 rows.
template <typename Weights, int kHigh>
struct TileSums {
  int sums[8 * kHigh];
  float values[8 * kHigh];  // of blocks

  inline void start() {
    BNB_UNROLL
    for (int i = 0; i < 8 * kHigh; ++i) sums[i] = 0, values[i] = 0.0f;
  }
  // Adds rows 8 * h to 8 * h + 7, which are in `part`.
  inline void add(int h, threadgroup const float *part, uint lane, float scale) {
    BNB_UNROLL
    for (int r = 0; r < 8; ++r) {
      const float sum = part[r * kLanes + int(lane)];
      if (Weights::kBlocks) {
        values[8 * h + r] = fma(sum, scale, values[8 * h + r]);
      } else {
        sums[8 * h + r] += int(sum);
      }
    }
  }
  // Scales, adds outlier columns, in their order, and writes column n from `row` on.
  inline void store(constant Int8ProductArgs &args, Int8Buffers to, long row, long n) {
    if (n >= args.n) return;
    if (args.out_dtype == kSums) {
      BNB_UNROLL
      for (int i = 0; i < 8 * kHigh; ++i) {
        if (row + i < args.m) store_sum(args, to, row + i, n, sums[i]);
      }
      return;
    }
    BNB_UNROLL
    for (int i = 0; i < 8 * kHigh; ++i) {
      const float sum = Weights::kBlocks ? values[i] : float(sums[i]);
      if (row + i < args.m) values[i] = scaled_sum_of<Weights>(args, to, sum, row + i, n);
    }
    const long count = outlier_columns(args, to);
    for (long i = 0; i < count; ++i) {
      const long k = outlier_column(args, to, i);
      if (k < 0) continue;
      const float w = outlier_weight(args, to, n, k);
      BNB_UNROLL
      for (int r = 0; r < 8 * kHigh; ++r) {
        if (row + r < args.m) values[r] = fma(outlier_activation(args, to, row + r, k), w, values[r]);
      }
    }
    BNB_UNROLL
    for (int i = 0; i < 8 * kHigh; ++i) {
      if (row + i < args.m) store_value(args, to, row + i, n, values[i]);
    }
  }
};

}  // namespace kernels
}  // namespace bnb

template <typename Weights, int kRows>
kernel void multiply_tiles(constant Int8ProductArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                           device const uchar *b [[buffer(2)]], device const uchar *scale [[buffer(3)]],
                           device const uchar *row_stats [[buffer(4)]], device const uchar *bias [[buffer(5)]],
                           device const uchar *x [[buffer(6)]], device const uchar *list [[buffer(7)]],
                           device const uint *count [[buffer(8)]], device uchar *out [[buffer(9)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  typedef MatrixTile<half, kRows> Tile;
  enum : int { kMs = Tile::kMs, kNs = Tile::kNs };
  static_assert(8 * kNs == kLanes, "a lane has a column");
  threadgroup half activations[Tile::kActivations];
  threadgroup half weights[Tile::kWeights];
  threadgroup float parts[kMatrixThreads / kLanes * kPart];
  static_assert(sizeof activations + sizeof weights + sizeof parts <= kMostMatrixBytes, "as the host counts on");
  const Int8Buffers from = {a, b, scale, row_stats, bias, x, list, count, out};
  threadgroup float *part = parts + int(simdgroup) * kPart;
  for (long tile = group; tile < args.tiles; tile += groups) {
    const long m0 = tile % args.tiles_m * kRows, n0 = tile / args.tiles_m * kMatrixTileN;
    const long n = n0 + Tile::column(simdgroup) + long(lane), of_scale = smaller(n, args.n - 1);
    TileSums<Weights, kMs> t;
    t.start();
    simdgroup_matrix<float, 8, 8> sums[kMs * kNs];
    Tile::clear(sums);
    const long most = Weights::kBlocks ? args.block.value : long(Weights::kExact);
    long left = most, block = 0;  // columns until sums are collected
    for (long k = 0; k < args.k; k += kMatrixStep) {
      fill_activations<Tile>(args, from, m0, kRows, k, index, activations);
      fill_weights<Tile, Weights>(args, from, n0, k, index, weights);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      Tile::multiply(activations, weights, simdgroup, sums);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      left -= kMatrixStep;
      if (left > 0 && k + kMatrixStep < args.k) continue;
      const float by = Weights::kBlocks ? Weights::block_scale(args, from, of_scale, block++) : 1.0f;
      BNB_UNROLL
      for (int i = 0; i < kMs; ++i) {
        BNB_UNROLL
        for (int j = 0; j < kNs; ++j) simdgroup_store(sums[i * kNs + j], part + 8 * j, kLanes);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        t.add(i, part, lane, by);
        simdgroup_barrier(mem_flags::mem_threadgroup);  // before the next rows are stored there
      }
      Tile::clear(sums);
      left = most;
    }
    t.store(args, from, m0 + Tile::row(simdgroup), n);
  }
}

#endif  // BNB_METAL_KERNELS_INT8_TILES_H_
