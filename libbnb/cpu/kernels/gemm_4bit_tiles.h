// SPDX-License-Identifier: MIT
// The 4-bit product of bf16 and fp16 activations in tiles of 16 x 32 bf16, with AMX or with dot products of pairs. SUM.
//
// As in gemm_4bit_panel.h, but weights are decoded into bf16, each codebook * scale rounded once. Rows of weights become rows of
// tiles as they come out of the look-up; activations take the order of K that this leaves (avx512_bf16_products.h), in
// pack_tiles(): for each 16 rows of them, tiles of 16 pairs of elements x 16 rows.
//
// fp16 is two parts of bf16 on both sides, high and low: a product is high * high + high * low + low * high.
#ifndef BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_
#define BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_

#include "cpu/kernels/gemm_4bit_few.h"

namespace bnb::cpu::BNB_ISA {
namespace {

template <typename Tag>
constexpr int kParts = Tag::kDType == DType::kF16 ? 2 : 1;

// A unit's activations and weights of a stretch and its sums share a level 2 cache (2 MiB where there is AMX). Short stretches
// leave the tiles of one product in level 1: tile products alone, of zeros, ran at 2.1 TFLOP/s on one core of a shared Xeon with
// AMX, at 1.5 with stretches of 1024. Whole products are far below both; what holds them there is not known.
constexpr int64_t kTilesStretch = 256, kTilesRows = 512;
template <typename Tag>
constexpr int64_t kTilesColumns = 512 / kParts<Tag>;
constexpr int64_t kFewTilesRows = 16, kFewTilesColumns = 64;  // one tile of activations serves four of weights

constexpr int64_t kGroupTiles = 4;  // tiles that a load of 128 codes has a row in
constexpr int64_t kWeightTileStride = kTilesStretch / 32 * kTileBytes;

BNB_INLINE int64_t tiles_of_row(const Gemm4bitArgs &args) { return ceil_div(args.k, kGroup) * kGroupTiles; }
BNB_INLINE int64_t tiles_sum_stride(const Gemm4bitArgs &args) {  // not all rows in the same set of the cache
  return args.m <= kFewTilesRows ? kFewTilesRows : round_up(smaller(args.m, kTilesRows), 32) + 16;
}

template <typename Tag>
void pack_tiles(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const char *a = static_cast<const char *>(args.a);
  const int64_t part_bytes = tiles_of_row(args) * kTileBytes;
  for (int64_t group = begin; group < end; ++group) {
    const int64_t rows = smaller(16, args.m - group * 16);
    char *to = args.packed + group * kParts<Tag> * part_bytes;
    for (int64_t k = 0; k < round_up(args.k, kGroup); k += 32) {
      __m512i high[16], low[16];
      BNB_UNROLL for (int i = 0; i < 16; ++i) {
        const BF16Parts parts = load_parts<Tag>(a + ((group * 16 + i) * args.a_stride + k) * 2, i < rows ? args.k - k : 0);
        high[i] = parts.high;
        low[i] = parts.low;
      }
      const int quarter = int(k % kGroup / 32);
      interleave_rows(high, quarter, to);
      if constexpr (kParts<Tag> == 2) interleave_rows(low, quarter, to + part_bytes);
      if (quarter == 3) to += kGroupTiles * kTileBytes;
    }
  }
}

// Elements [k0, k1) of a row of weights, zeros up to the next multiple of kGroup; to: its row in its first tile. ahead: bytes to
// what is read next.
template <int kCount>
BNB_INLINE void decode_tile_row(const Gemm4bitArgs &args, Floats codebook, const Blocks &blocks, int64_t row, int64_t k0,
                                int64_t k1, int64_t ahead, char *to, int64_t part_stride) {
  float buffer[kScalesAtOnce];
  const char *from = scales_of(args.absmax, row * blocks.per_row + blocks.first, blocks.count, buffer);
  const uint8_t *w = args.b + (row * args.k + k0) / 2;
  int64_t left_in_block = blocks.left_in_first;
  for (int64_t k = k0; k < k1; k += kGroup, w += kGroupBytes, to += kGroupTiles * kTileBytes) {
    prefetch(w + ahead);
    const int64_t left = k1 - k;
    const Ints v = left >= kGroup ? load_int32(w) : load_int32_some(w, left / 8);
    float scales[4];
    BNB_UNROLL for (int i = 0; i < 4; ++i) {
      scales[i] = i * 32 < left ? bnb::load<float>(from, 0) : 0.0f;
      left_in_block -= 32;
      if (left_in_block == 0) {
        left_in_block = args.blocksize;
        from += 4;
      }
    }
    scale_nibbles<kCount>(codebook, scales, v, to, kTileBytes, part_stride);
  }
}

// A stretch of rows [n0, n0 + columns) of weights as tiles; zeros up to the next multiple of `step` rows.
template <typename Tag>
BNB_INLINE void decode_tiles(const Gemm4bitKernelArgs &args, int64_t n0, int64_t columns, int64_t step, int64_t k0, int64_t k1,
                             int64_t part_stride) {
  const Floats codebook = load<F32>(codebook_of(args.quant_type));
  const Blocks blocks = blocks_of(args, k0, k1);
  const int64_t tiles = ceil_div(k1 - k0, kGroup) * kGroupTiles;
  const int64_t ahead = k1 < args.k ? kTilesStretch / 2 : (columns * args.k - k0) / 2;
  for (int64_t n = 0; n < round_up(columns, step); ++n) {
    char *to = args.scratch + n / 16 * kWeightTileStride + n % 16 * 64;
    if (n < columns) {
      decode_tile_row<kParts<Tag>>(args, codebook, blocks, n0 + n, k0, k1, ahead, to, part_stride);
      continue;
    }
    for (int64_t i = 0; i < tiles; ++i) {
      _mm512_storeu_si512(to + i * kTileBytes, _mm512_setzero_si512());
      if (kParts<Tag> == 2) _mm512_storeu_si512(to + part_stride + i * kTileBytes, _mm512_setzero_si512());
    }
  }
}

// The tiles of a stretch by those of the activations, into c.
template <typename Tag, int kN, int kM>
BNB_INLINE void multiply_stretch(const Gemm4bitKernelArgs &args, int64_t m0, int64_t rows, int64_t columns, int64_t k0,
                                 int64_t tiles, int64_t part_stride, float *c, int64_t c_stride) {
  const int64_t a_part = tiles_of_row(args) * kTileBytes, a_stride = kParts<Tag> * a_part;
  for (int64_t m = 0; m < rows; m += 16 * kM) {
    const char *a = args.packed + (m0 + m) / 16 * a_stride + k0 / 32 * kTileBytes;
    for (int64_t n = 0; n < columns; n += 16 * kN) {
      const char *w = args.scratch + n / 16 * kWeightTileStride;
      float *sums = c + n * c_stride + m;
      if constexpr (kParts<Tag> == 2) {
        const TileRun runs[3] = {{w, a}, {w, a + a_part}, {w + part_stride, a}};
        multiply_tiles<kN, kM>(runs, kWeightTileStride, a_stride, tiles, sums, c_stride, k0 == 0);
      } else {
        const TileRun runs[1] = {{w, a}};
        multiply_tiles<kN, kM>(runs, kWeightTileStride, a_stride, tiles, sums, c_stride, k0 == 0);
      }
    }
  }
}

template <typename Tag>
void multiply_tile_panels(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const TileUnit tile_unit;
  const bool few = args.m <= kFewTilesRows;
  const Panels panels = cut(args, args.unit_columns, kTilesRows);
  const int64_t part_stride = args.unit_columns / 16 * kWeightTileStride, c_stride = tiles_sum_stride(args);
  float *c = reinterpret_cast<float *>(args.scratch + kParts<Tag> * part_stride);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * args.unit_columns, columns = smaller(args.unit_columns, args.n - n0);
    const int64_t m0 = unit / panels.across * kTilesRows, rows = smaller(kTilesRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kTilesStretch) {
      const int64_t k1 = smaller(k0 + kTilesStretch, args.k), tiles = ceil_div(k1 - k0, kGroup) * kGroupTiles;
      decode_tiles<Tag>(args, n0, columns, few ? 64 : 32, k0, k1, part_stride);
      if (few) {
        multiply_stretch<Tag, 4, 1>(args, m0, rows, columns, k0, tiles, part_stride, c, c_stride);
      } else {
        multiply_stretch<Tag, 2, 2>(args, m0, rows, columns, k0, tiles, part_stride, c, c_stride);
      }
    }
    write_sums<Tag>(args, c, c_stride, m0, rows, n0, columns);
  }
}

template <typename Tag>
ProductPlan plan_tiles(const Gemm4bitArgs &args, int threads) {
  ProductPlan plan{};
  const bool few = args.m <= kFewTilesRows;
  plan.unit_columns = few ? kFewTilesColumns : kTilesColumns<Tag>;
  while (plan.unit_columns > kFewTilesColumns && cut(args, plan.unit_columns, kTilesRows).count() < 4 * threads) {
    plan.unit_columns /= 2;
  }
  plan.units = cut(args, plan.unit_columns, kTilesRows).count();
  plan.unit_cost = few ? plan.unit_columns * args.k / 4 : plan.unit_columns * args.k;
  plan.pack_units = ceil_div(args.m, 16);
  plan.pack_unit_cost = args.k * 64;
  plan.packed_bytes = round_up(plan.pack_units, 2) * kParts<Tag> * tiles_of_row(args) * kTileBytes;
  plan.scratch_bytes = plan.unit_columns * (kTilesStretch * 2 * kParts<Tag> + tiles_sum_stride(args) * 4);
  return plan;
}

template <typename Tag>
bool fits_tiles(const Gemm4bitArgs &args) {
  return args.dtype == Tag::kDType && args.k % args.blocksize == 0 && args.blocksize % 32 == 0 &&
         (args.blocksize % kGroup == 0 || kGroup % args.blocksize == 0);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_
