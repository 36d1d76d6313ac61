// SPDX-License-Identifier: MIT
// Products of quantized weights with bf16 and fp16 activations in tiles of 16 x 32 bf16, by AMX or dot products of pairs. SUM.
//
// As in gemm_panel.h, but weights are decoded into bf16. Rows of weights become rows of tiles as they come out of the look-up;
// activations take the order of K that this leaves (avx512_bf16_products.h), in pack_tiles(): for each 16 rows of them,
// tiles of 16 pairs of elements x 16 rows.
//
// fp16 is two parts of bf16 on both sides, high and low: a product is high * high + high * low + low * high.
//
// A format is a class with
//   kGroup, kGroupTiles, Table, table(args)    a load of codes; tiles that it has a row in; what a call needs to know
//   fits(args)                   whether its decode_row() can do these shapes
//   waiting(args)                what weights are decoded without, so that the sums get it
//   exact(args)                  whether what is decoded needs no rounding to bf16: then there is one part of weights
//   decode_row<kParts>(args, table, blocks, row, k0, k1, ahead, to, part_stride)
//       elements [k0, k1) of a row of weights, zeros up to the next multiple of kGroup; to: its row in its first tile; with two
//       parts, the low ones go to `part_stride` behind (asked for only where weights are not exact); ahead: codes to what is read next
#ifndef BNB_CPU_KERNELS_GEMM_TILES_H_
#define BNB_CPU_KERNELS_GEMM_TILES_H_

#include "cpu/kernels/gemm_methods.h"

namespace bnb::cpu::BNB_ISA {
namespace {

template <typename Tag>
constexpr int kParts = Tag::kDType == DType::kF16 ? 2 : 1;

// A unit's activations and weights of a stretch and its sums share a level 2 cache (2 MiB where there is AMX); 32 rows of activations,
// which meet all weights of the stretch one after the other, fit level 1. On one core of a shared Xeon with AMX tile products alone ran at
// 1.5 to 2.2 TFLOP/s, and whole ones at 1.0 to 1.2 with these sizes: twice the stretch, or half or twice the rows or columns, took 2
// to 20 % longer.
constexpr int64_t kTilesStretch = 512, kTilesRows = 512;
template <typename Tag>
constexpr int64_t kTilesColumns = 256 / kParts<Tag>;
constexpr int64_t kFewTilesRows = 16, kFewTilesColumns = 64;  // one tile of activations serves four of weights

constexpr int64_t kWeightTileStride = kTilesStretch / 32 * kTileBytes;

// Tiles that a row has a part of in the stretch from k0 on.
template <typename Format>
BNB_INLINE int64_t tiles_of_stretch(const GemmArgs &args, int64_t k0) {
  return ceil_div(smaller(kTilesStretch, args.k - k0), Format::kGroup) * Format::kGroupTiles;
}
BNB_INLINE int64_t tiles_sum_rows(const GemmArgs &args) {
  return args.m <= kFewTilesRows ? kFewTilesRows : round_up(smaller(args.m, kTilesRows), 32);
}

// Packed activations lie stretch by stretch, so that one stretch of many rows is read from one end to the other: where the tiles of
// that stretch are for rows 16 * group and on.
template <typename Format, typename Tag>
BNB_INLINE char *packed_tiles(const GemmKernelArgs &args, int64_t group, int64_t k0) {
  const int64_t groups = round_up(args.m, 32) / 16;
  return args.packed + (k0 / 32 * groups + tiles_of_stretch<Format>(args, k0) * group) * kParts<Tag> * kTileBytes;
}

template <typename Format, typename Tag>
void pack_tiles(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kGroup = Format::kGroup, kGroupTiles = Format::kGroupTiles;
  const char *a = static_cast<const char *>(args.a);
  for (int64_t group = begin; group < end; ++group) {
    const int64_t rows = smaller(16, args.m - group * 16);
    for (int64_t k0 = 0; k0 < args.k; k0 += kTilesStretch) {
      const int64_t k1 = smaller(k0 + kTilesStretch, args.k), part_bytes = tiles_of_stretch<Format>(args, k0) * kTileBytes;
      char *to = packed_tiles<Format, Tag>(args, group, k0);
      for (int64_t k = k0; k < round_up(k1, kGroup); k += 32) {
        __m512i high[16], low[16];
        BNB_UNROLL for (int i = 0; i < 16; ++i) {
          const BF16Parts parts = load_parts<Tag>(a + ((group * 16 + i) * args.a_stride + k) * 2, i < rows ? args.k - k : 0);
          high[i] = parts.high;
          low[i] = parts.low;
        }
        const int part = int(k % kGroup / 32);
        interleave_rows<kGroupTiles>(high, part, to);
        if constexpr (kParts<Tag> == 2) interleave_rows<kGroupTiles>(low, part, to + part_bytes);
        if (part == kGroupTiles - 1) to += kGroupTiles * kTileBytes;
      }
    }
  }
}

// A stretch of rows [n0, n0 + columns) of weights as tiles; zeros up to the next multiple of `step` rows.
template <typename Format, typename Tag>
BNB_INLINE void decode_tiles(const GemmKernelArgs &args, const typename Format::Table &table, int64_t n0, int64_t columns,
                             int64_t step, int64_t k0, int64_t k1, int64_t part_stride) {
  const Blocks blocks = blocks_of(args, k0, k1);
  const int64_t tiles = tiles_of_stretch<Format>(args, k0);
  const int64_t ahead = kRowsAhead * args.k;
  const bool two_parts = kParts<Tag> == 2 && !Format::exact(args);
  for (int64_t n = 0; n < round_up(columns, step); ++n) {
    char *to = args.scratch + n / 16 * kWeightTileStride + n % 16 * 64;
    if (n >= columns) {
      for (int64_t i = 0; i < tiles; ++i) {
        store<F32>(to + i * kTileBytes, splat(0.0f));
        if (two_parts) store<F32>(to + part_stride + i * kTileBytes, splat(0.0f));
      }
    } else if (two_parts) {
      Format::template decode_row<kParts<Tag>>(args, table, blocks, n0 + n, k0, k1, ahead, to, part_stride);
    } else {
      Format::template decode_row<1>(args, table, blocks, n0 + n, k0, k1, ahead, to, part_stride);
    }
  }
}

// The tiles of a stretch by those of the activations, into c: blocks of kN x kM tiles one behind the other, along columns first.
template <typename Format, typename Tag, int kN, int kM>
BNB_INLINE void multiply_stretch(const TileUnit &tile_unit, const GemmKernelArgs &args, int64_t m0, int64_t rows,
                                 int64_t columns, int64_t k0, int64_t part_stride, float *c) {
  const int64_t tiles = tiles_of_stretch<Format>(args, k0), a_part = tiles * kTileBytes, a_stride = kParts<Tag> * a_part;
  const bool exact = Format::exact(args);
  for (int64_t m = 0; m < rows; m += 16 * kM) {
    const char *a = packed_tiles<Format, Tag>(args, (m0 + m) / 16, k0);
    for (int64_t n = 0; n < columns; n += 16 * kN, c += kN * kM * kTileSums) {
      const char *w = args.scratch + n / 16 * kWeightTileStride;
      if constexpr (kParts<Tag> == 1) {
        const TileRun runs[1] = {{w, a}};
        tile_unit.multiply<kN, kM>(runs, kWeightTileStride, a_stride, tiles, c, k0 == 0);
      } else if (exact) {
        const TileRun runs[2] = {{w, a}, {w, a + a_part}};
        tile_unit.multiply<kN, kM>(runs, kWeightTileStride, a_stride, tiles, c, k0 == 0);
      } else {
        const TileRun runs[3] = {{w, a}, {w, a + a_part}, {w + part_stride, a}};
        tile_unit.multiply<kN, kM>(runs, kWeightTileStride, a_stride, tiles, c, k0 == 0);
      }
    }
  }
}

// A unit, in blocks of kN x kM tiles.
template <typename Format, typename Tag, int kN, int kM>
BNB_INLINE void multiply_tile_unit(const TileUnit &tile_unit, const GemmKernelArgs &args, const typename Format::Table &table,
                                   int64_t m0, int64_t n0) {
  const int64_t columns = smaller(args.unit_columns, args.n - n0), rows = smaller(kTilesRows, args.m - m0);
  const int64_t part_stride = args.unit_columns / 16 * kWeightTileStride, across = ceil_div(columns, 16 * kN);
  float *c = reinterpret_cast<float *>(args.scratch + kParts<Tag> * part_stride);
  for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kTilesStretch) {
    const int64_t k1 = smaller(k0 + kTilesStretch, args.k);
    decode_tiles<Format, Tag>(args, table, n0, columns, 16 * kN, k0, k1, part_stride);
    multiply_stretch<Format, Tag, kN, kM>(tile_unit, args, m0, rows, columns, k0, part_stride, c);
  }
  const auto at = [&](int64_t n, int64_t m) {
    const int64_t block = m / (16 * kM) * across + n / (16 * kN);
    return c + (block * kN * kM + n / 16 % kN * kM + m / 16 % kM) * kTileSums;
  };
  write_sums<Tag>(args, at, 16, m0, rows, n0, columns, Format::waiting(args));
}

template <typename Format, typename Tag>
void multiply_tile_panels(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  static_assert(kTilesStretch % Format::kGroup == 0, "whole loads");
  const TileUnit tile_unit;
  const typename Format::Table table = Format::table(args);
  const Panels panels = cut(args, args.unit_columns, kTilesRows);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * args.unit_columns, m0 = unit / panels.across * kTilesRows;
    if (args.m <= kFewTilesRows) {
      multiply_tile_unit<Format, Tag, 4, 1>(tile_unit, args, table, m0, n0);
    } else {
      multiply_tile_unit<Format, Tag, 2, 2>(tile_unit, args, table, m0, n0);
    }
  }
}

template <typename Format, typename Tag>
ProductPlan plan_tiles(const GemmArgs &args, int threads) {
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
  plan.packed_bytes = round_up(args.m, 32) * round_up(args.k, Format::kGroup) * 2 * kParts<Tag>;
  plan.scratch_bytes = plan.unit_columns * (kTilesStretch * 2 * kParts<Tag> + tiles_sum_rows(args) * 4);
  return plan;
}

template <typename Format, typename Tag>
bool fits_tiles(const GemmArgs &args) {
  return args.dtype == Tag::kDType && Format::fits(args);
}

// This method as a row of a table.
template <typename Format, typename Tag>
constexpr GemmMethod tiles(const char *name) {
  return {name, fits_tiles<Format, Tag>, plan_tiles<Format, Tag>, pack_tiles<Format, Tag>, multiply_tile_panels<Format, Tag>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_TILES_H_
