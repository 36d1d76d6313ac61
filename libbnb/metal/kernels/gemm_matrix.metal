// SPDX-License-Identifier: MIT
// Products of quantized weights with many rows of activations, by simdgroup matrices. SUM. What limits it is fma: in a tile of 64 x 64
// outputs a weight is decoded once for 64 multiplications.
//
// Matrices are of float, w_error 0: weights times their scales leave the range of half, whose subnormal numbers a GPU may take for zero,
// besides, activations included. Those of bfloat have float's range: w_error 2^-8 of NF4, FP4 and FP8, 0 of MX, whose values have few bits.
#include "metal/kernels/matrix_tiles.h"
#include "metal/kernels/weights.h"

template <typename Codec, int kRows, typename Element, typename Tag>
kernel void multiply_matrix(constant GemmArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device const uchar *b [[buffer(2)]],
                            device const uchar *bias [[buffer(3)]], device uchar *out [[buffer(4)]],
                            device const uchar *scales [[buffer(5)]], device const uchar *nested_code [[buffer(6)]],
                            device const uchar *nested_absmax [[buffer(7)]], device const uchar *single [[buffer(8)]],
                            uint index [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                            uint groups [[threadgroups_per_grid]]) {
  typedef MatrixTile<Element, kRows> Tile;
  threadgroup float values[256];
  threadgroup float patches[Tile::kPatches];
  threadgroup uint4 weight_vectors[Tile::kWeights / Tile::kInVector];
  threadgroup uint4 activation_vectors[Tile::kActivations / Tile::kInVector];
  static_assert(sizeof values + sizeof patches + sizeof weight_vectors + sizeof activation_vectors <= kMostMatrixBytes, "see the host");
  threadgroup Element *weights = reinterpret_cast<threadgroup Element *>(weight_vectors);
  threadgroup Element *activations = reinterpret_cast<threadgroup Element *>(activation_vectors);
  fill_values<Codec>(args, values, index, kMatrixThreads);
  const Scales from = {scales, nested_code, nested_absmax, single};
  SplitScale common = {common_scale(args.scales, from), 1.0f};
  if (sizeof(Element) == 2 && args.scales.kind == kScaleE4M3FN) common = split_scale(common.power);
  const GemmOutputs<Tag> outputs = {&args, bias, out, common.rest};
  const FloatRows rows = {a, args.m, args.k, args.a_stride, args.vectors_a != 0, args.aligned_a != 0};

  enum : int { kUnits = kMatrixStep / kUnit, kWords = kUnit * Codec::kBits / 32 };
  static_assert(kMatrixTileN * kUnits == kMatrixThreads, "a thread decodes a unit of a step");
  const int row_of_tile = int(index) / kUnits, first = int(index) % kUnits * kUnit;
  for (long tile = group; tile < args.tiles; tile += groups) {
    const long m0 = tile % args.tiles_m * kRows, n0 = tile / args.tiles_m * kMatrixTileN, row = n0 + row_of_tile;
    simdgroup_matrix<float, 8, 8> sums[Tile::kMs * Tile::kNs];
    Tile::clear(sums);
    long block = -1;
    BlockScale scale = {0.0f, 0.0f};
    for (long k0 = 0; k0 < args.k; k0 += kMatrixStep) {
      const bool there = row < args.n && k0 + first < args.k;
      uint words[kWords];
      if (there) {
        const long i = row * args.k + k0 + first, its_block = quotient(i, args.blocksize);
        load_words<kWords>(b, args.vectors_b != 0, i * Codec::kBits / 8, words);
        if (its_block != block) scale = block_scale(scale_at(args.scales, from, common.power, its_block));
        block = its_block;
      }
      stage_rows<Tag, Element, kRows>(rows, m0, k0, activations, index);
      BNB_UNROLL
      for (int at = 0; at < kUnit; at += 8) {
        float w[8];
        BNB_UNROLL
        for (int j = 0; j < 8; ++j) w[j] = 0.0f;
        if (there) {
          Codec::decode_eight(values, args.low_first != 0, words, at, w);
          BNB_UNROLL
          for (int j = 0; j < 8; ++j) w[j] = w[j] * scale.factor * scale.power;
        }
        store_eight(weights + row_of_tile * Tile::kPitch + first + at, w);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      Tile::multiply(activations, weights, simdgroup, sums);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    Tile::store(outputs, m0, n0, simdgroup, lane, patches + simdgroup * 64, sums);
  }
}

BNB_FLOAT_KERNELS_WITH("matrix_nibbles_16", multiply_matrix, Nibbles, 16, float)
BNB_FLOAT_KERNELS_WITH("matrix_nibbles_64", multiply_matrix, Nibbles, 64, float)
BNB_FLOAT_KERNELS_WITH("matrix_bytes_16", multiply_matrix, Bytes, 16, float)
BNB_FLOAT_KERNELS_WITH("matrix_bytes_64", multiply_matrix, Bytes, 64, float)
#if __METAL_VERSION__ >= 310
BNB_KERNEL("matrix_nibbles_16_bfloat_bf16", multiply_matrix<Nibbles, 16, bfloat, BF16>)
BNB_KERNEL("matrix_nibbles_64_bfloat_bf16", multiply_matrix<Nibbles, 64, bfloat, BF16>)
BNB_KERNEL("matrix_bytes_16_bfloat_bf16", multiply_matrix<Bytes, 16, bfloat, BF16>)
BNB_KERNEL("matrix_bytes_64_bfloat_bf16", multiply_matrix<Bytes, 64, bfloat, BF16>)
#endif
