// SPDX-License-Identifier: MIT
// The int8 product in tiles of 16 x 64 bytes (AMX).
//
// As in gemm_int8_panel.h; weights need no turning: a stretch of K of a panel is copied tile by tile, so that a tile is 1 KiB in one
// place, and stays in the level 2 cache. What the next stretch needs comes from memory while this one is multiplied.
#ifndef BNB_CPU_KERNELS_GEMM_INT8_TILES_H_
#define BNB_CPU_KERNELS_GEMM_INT8_TILES_H_

#include "cpu/kernels/gemm_int8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Weights of a stretch, activations of a stretch and sums of a unit share a level 2 cache of 2 MiB. Where few rows share the copy of
// a weight, a stretch of weights stays in the level 1 cache.
constexpr int64_t kByteTilesRows = 512, kByteTilesColumns = 256;
constexpr int64_t kFewByteTilesRows = 256, kFewByteTilesColumns = 64;
constexpr int64_t kByteTileK = 64;  // elements of K in a tile
constexpr int64_t kByteTilesStretch = 512;
constexpr int64_t kByteTileStride = kByteTilesStretch / kByteTileK * kTileBytes;  // from one row of tiles to the next

BNB_INLINE int64_t byte_tiles_of_row(const GemmInt8Args &args) { return ceil_div(args.k, kByteTileK); }

// The sums of a unit of `columns` columns, rounded up to 64: blocks of four tiles, two by two; if there are 16 rows or less left,
// the last ones are four by one.
struct ByteSums {
  int32_t *sums;
  int64_t columns, rows;

  BNB_INLINE int64_t pairs() const { return (rows + 15) / 32 * 32; }  // rows in blocks of two by two
  BNB_INLINE int32_t *block(int64_t m, int64_t n) const {
    const int64_t width = m < pairs() ? 32 : 64;
    return sums + (m / 32 * (columns / 32) + n / width) * 4 * kTileSums;
  }
  BNB_INLINE const int32_t *tile(int64_t m, int64_t n) const {
    return block(m, n) + (m < pairs() ? n / 16 % 2 * 2 + m / 16 % 2 : n / 16 % 4) * kTileSums;
  }
};
BNB_INLINE int64_t byte_sum_bytes(const GemmInt8Args &args, int64_t unit_columns) {
  return unit_columns * round_up(smaller(args.m, kByteTilesRows), 32) * int64_t(sizeof(int32_t));
}

BNB_INLINE char *byte_tiles(const GemmInt8KernelArgs &args, int64_t group) {
  return args.packed + outlier_bytes(args) + group * byte_tiles_of_row(args) * kTileBytes;
}

// Activations of 16 rows as tiles of 16 x 4 elements by 16 rows.
void pack_byte_tiles(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    if (args.outliers) pack_outliers(args, group);
    const int64_t first = group * 16, rows = smaller(16, args.m - first);
    char *to = byte_tiles(args, group);
    for (int64_t k = 0; k < args.k; k += kByteTileK, to += kTileBytes) {
      Floats x[16];
      BNB_UNROLL for (int i = 0; i < 16; ++i) {
        x[i] = from_bits(i < rows ? load_dot(args.a + (first + i) * args.a_stride + k, args.k - k) : splat_int(0));
      }
      transpose(x);
      BNB_UNROLL for (int i = 0; i < 16; ++i) store<F32>(to + i * 64, x[i]);
    }
  }
}

// A stretch of rows [n0, n0 + columns) of weights as tiles; any numbers up to the next multiple of 64 rows.
BNB_INLINE void copy_byte_tiles(const GemmInt8KernelArgs &args, int64_t n0, int64_t columns, int64_t k0, int64_t k1) {
  for (int64_t n = 0; n < columns; ++n) {
    const int8_t *w = args.b + (n0 + n) * args.b_stride;
    char *to = args.scratch + n / 16 * kByteTileStride + n % 16 * 64;
    for (int64_t k = k0; k < k1; k += kByteTileK, to += kTileBytes) {
      prefetch(w + k + args.b_stride);
      store_int32(to, load_dot(w + k, k1 - k));
    }
  }
}

// What multiplying the tiles of a stretch by those of `rows` activations takes from memory meanwhile, call by call.
struct AheadOfPanel {
  const char *p;
  int64_t rows_left, rows_per_call, stride;
  BNB_INLINE Ahead next() {
    const int64_t rows = smaller(rows_per_call, rows_left);
    const Ahead ahead{p, rows, stride};
    p += rows * stride;
    rows_left -= rows;
    return ahead;
  }
};

BNB_INLINE void multiply_byte_stretch(const GemmInt8KernelArgs &args, int64_t m0, int64_t k0, int64_t steps, AheadOfPanel ahead,
                                      const ByteSums &sums) {
  const int64_t a_stride = byte_tiles_of_row(args) * kTileBytes;
  const auto weights = [&](int64_t n) { return args.scratch + n / 16 * kByteTileStride; };
  const auto activations = [&](int64_t m) { return byte_tiles(args, (m0 + m) / 16) + k0 / kByteTileK * kTileBytes; };
  int64_t m = 0;
  for (; m < sums.pairs(); m += 32) {
    for (int64_t n = 0; n < sums.columns; n += 32) {
      multiply_byte_tiles<2, 2>(weights(n), kByteTileStride, activations(m), a_stride, steps, sums.block(m, n), k0 == 0, ahead.next());
    }
  }
  if (m >= sums.rows) return;
  for (int64_t n = 0; n < sums.columns; n += 64) {
    multiply_byte_tiles<4, 1>(weights(n), kByteTileStride, activations(m), a_stride, steps, sums.block(m, n), k0 == 0, ahead.next());
  }
}

void multiply_byte_tile_panels(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  const TileUnit tile_unit;
  const Panels panels = cut(args, args.unit_columns, kByteTilesRows);
  int32_t *c = reinterpret_cast<int32_t *>(args.scratch + args.unit_columns / 16 * kByteTileStride);
  float *outliers = reinterpret_cast<float *>(reinterpret_cast<char *>(c) + byte_sum_bytes(args, args.unit_columns));
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * args.unit_columns, columns = smaller(args.unit_columns, args.n - n0);
    const int64_t m0 = unit / panels.across * kByteTilesRows, rows = smaller(kByteTilesRows, args.m - m0);
    const ByteSums sums{c, round_up(columns, 64), rows};
    const int64_t calls = sums.pairs() / 32 * (sums.columns / 32) + (sums.pairs() < rows ? sums.columns / 64 : 0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kByteTilesStretch) {
      const int64_t k1 = smaller(k0 + kByteTilesStretch, args.k), steps = ceil_div(k1 - k0, kByteTileK);
      copy_byte_tiles(args, n0, columns, k0, k1);
      const bool last = k1 == args.k;  // then the next unit is likely to begin where this one ends
      const int8_t *next = args.b + (last ? (n0 + columns) * args.b_stride : n0 * args.b_stride + k1);
      const AheadOfPanel ahead{reinterpret_cast<const char *>(next), columns, ceil_div(columns, calls), args.b_stride};
      multiply_byte_stretch(args, m0, k0, steps, ahead, sums);
    }
    write_sums_of(args, m0, rows, n0, columns, outliers, [&](int64_t m, int64_t n, Floats (&x)[16]) {
      const int32_t *tile = sums.tile(m, n);
      BNB_UNROLL for (int i = 0; i < 16; ++i) x[i] = from_bits(load_int32(tile + i * 16));
    });
  }
}

ProductPlan plan_byte_tiles(const GemmInt8Args &args, int threads) {
  ProductPlan plan{};
  const bool few = args.m <= kFewByteTilesRows;
  plan.unit_columns = few ? kFewByteTilesColumns : kByteTilesColumns;
  while (plan.unit_columns > kFewByteTilesColumns && cut(args, plan.unit_columns, kByteTilesRows).count() < 4 * threads) {
    plan.unit_columns /= 2;
  }
  plan.units = cut(args, plan.unit_columns, kByteTilesRows).count();
  plan.unit_cost = few ? plan.unit_columns * args.k / 2 : plan.unit_columns * args.k;
  plan.pack_units = ceil_div(args.m, 16);
  plan.pack_unit_cost = 16 * (args.k * 2 + 64 * args.outliers);
  plan.packed_bytes = outlier_bytes(args) + plan.pack_units * byte_tiles_of_row(args) * kTileBytes;
  plan.scratch_bytes = plan.unit_columns * kByteTilesStretch + byte_sum_bytes(args, plan.unit_columns) + outlier_buffer_bytes(args);
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_TILES_H_
