// SPDX-License-Identifier: MIT
// Products of int8 activations in tiles of 16 x 64 bytes (AMX).
//
// As in gemm_int8_panel.h; weights need no turning: a stretch of K of a panel is copied tile by tile, so that a tile is 1 KiB in one
// place, and stays in the level 2 cache. What the next stretch needs comes from memory while this one is multiplied. Blocks with
// scales of their own are whole tiles.
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
static_assert(kByteTilesStretch <= kInt8Stretch && kByteTilesStretch % kRowStretch == 0, "what weights give at a time");
constexpr int64_t kByteTileStride = kByteTilesStretch / kByteTileK * kTileBytes;  // from one row of tiles to the next

template <typename Args>
BNB_INLINE int64_t byte_tiles_of_row(const Args &args) {
  return ceil_div(args.k, kByteTileK);
}

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
template <typename Args>
BNB_INLINE int64_t byte_sums(const Args &args, int64_t unit_columns) {
  return unit_columns * round_up(smaller(args.m, kByteTilesRows), 32);
}

template <typename Weights>
BNB_INLINE char *byte_tiles(const ProductArgs<typename Weights::Args> &args, int64_t group) {
  return args.packed + Weights::front_bytes(args) + group * byte_tiles_of_row(args) * kTileBytes;
}

// Activations of 16 rows as tiles of 16 x 4 elements by 16 rows.
template <typename Weights>
void pack_byte_tiles(const ProductArgs<typename Weights::Args> &args, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    Weights::pack_front(args, group);
    const int64_t first = group * 16, rows = smaller(16, args.m - first);
    char *to = byte_tiles<Weights>(args, group);
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
template <typename Weights>
BNB_INLINE void copy_byte_tiles(const ProductArgs<typename Weights::Args> &args, int64_t n0, int64_t columns, int64_t k0,
                                int64_t k1) {
  int8_t buffer[kInt8Stretch];
  for (int64_t n = 0; n < columns; ++n) {
    const int8_t *w = Weights::row(args, n0 + n, k0, k1, buffer);
    if (!Weights::kSmall) ask_for_row<Weights>(args, n0 + n + 1, k0, k1);
    if (Weights::kSmall && k1 < args.k) ask_for_row<Weights>(args, n0 + n, k1, smaller(k1 + kByteTilesStretch, args.k));
    char *to = args.scratch + n / 16 * kByteTileStride + n % 16 * 64;
    for (int64_t k = 0; k < k1 - k0; k += kByteTileK, to += kTileBytes) store_int32(to, load_dot(w + k, k1 - k0 - k));
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

// The next stretch, or the first one of the next unit, which is likely to begin where this one ends.
template <typename Weights>
BNB_INLINE AheadOfPanel ahead_of_panel(const typename Weights::Args &args, int64_t n0, int64_t columns, int64_t k1, int64_t calls) {
  if (Weights::kSmall) return {nullptr, 0, 0, 0};  // asked for row by row
  const char *next = k1 == args.k ? Weights::address(args, n0 + columns, 0) : Weights::address(args, n0, k1);
  return {next, columns, ceil_div(columns, calls), Weights::row_bytes(args)};
}

// What a unit has in scratch behind the weights of a stretch.
template <typename Weights>
struct ByteScratch {
  int64_t scale_stride;
  int32_t *c;
  float *totals, *scales, *buffer;  // of blocks: their sums, and the scales of a stretch

  BNB_INLINE explicit ByteScratch(const ProductArgs<typename Weights::Args> &args) {
    const int64_t sums = byte_sums(args, args.unit_columns);
    scale_stride = stretch_blocks(Weights::block(args), kByteTilesStretch);
    c = reinterpret_cast<int32_t *>(args.scratch + args.unit_columns / 16 * kByteTileStride);
    totals = reinterpret_cast<float *>(c + sums);
    scales = totals + (Weights::kScalesBlocks ? sums : 0);
    buffer = scales + (Weights::kScalesBlocks ? args.unit_columns * scale_stride : 0);
  }
  static BNB_INLINE int64_t bytes(const typename Weights::Args &args, int64_t unit_columns) {
    const int64_t sums = byte_sums(args, unit_columns);
    const int64_t of_blocks = sums + unit_columns * stretch_blocks(Weights::block(args), kByteTilesStretch);
    return unit_columns * kByteTilesStretch + (sums + (Weights::kScalesBlocks ? of_blocks : 0)) * 4 + Weights::buffer_bytes(args);
  }
};

// The sums of a block in four tiles, times the scales of rows of weights: to = or, if not first, +=. scales: of the first row of
// tile (0, 0), a stride apart.
template <int kN, int kM>
BNB_INLINE void add_scaled_byte_tiles(const int32_t *c, const float *scales, int64_t stride, float *to, bool first) {
  for (int64_t tile = 0; tile < kN * kM; ++tile) {
    const float *of_rows = scales + tile / kM * 16 * stride;
    for (int64_t row = 0; row < 16; ++row, c += 16, to += 16) {
      const Floats product = to_float(load_int32(c)), scale = splat(of_rows[row * stride]);
      store<F32>(to, first ? mul(product, scale) : fma(product, scale, load<F32>(to)));
    }
  }
}

// Four tiles of sums over a stretch [k0, k1), block by block: weights from row n of the unit on, activations from row m0 + m on.
template <typename Weights, int kN, int kM>
BNB_INLINE void multiply_byte_blocks(const ProductArgs<typename Weights::Args> &args, const ByteScratch<Weights> &scratch,
                                     const char *activations, int64_t n, int64_t k0, int64_t k1, int32_t *sums, const Ahead &ahead) {
  const int64_t a_stride = byte_tiles_of_row(args) * kTileBytes, block_size = Weights::block(args);
  const char *weights = args.scratch + n / 16 * kByteTileStride;
  for_each_block(block_size, k0, k1, [&](int64_t block, int64_t k, int64_t stop) {
    const bool first = k == block * block_size;
    const int64_t tile = (k - k0) / kByteTileK;
    multiply_byte_tiles<kN, kM>(weights + tile * kTileBytes, kByteTileStride, activations + tile * kTileBytes, a_stride,
                                ceil_div(stop - k, kByteTileK), sums, first, ahead);
    if (!Weights::kScalesBlocks || stop != (block + 1) * block_size) return;
    const float *scales = scratch.scales + n * scratch.scale_stride + block - k0 / block_size;
    add_scaled_byte_tiles<kN, kM>(sums, scales, scratch.scale_stride, scratch.totals + (sums - scratch.c), block == 0);
  });
}

template <typename Weights>
BNB_INLINE void multiply_byte_stretch(const ProductArgs<typename Weights::Args> &args, const ByteScratch<Weights> &scratch,
                                      int64_t m0, int64_t k0, int64_t k1, AheadOfPanel ahead, const ByteSums &sums) {
  const auto activations = [&](int64_t m) { return byte_tiles<Weights>(args, (m0 + m) / 16) + k0 / kByteTileK * kTileBytes; };
  int64_t m = 0;
  for (; m < sums.pairs(); m += 32) {
    for (int64_t n = 0; n < sums.columns; n += 32) {
      multiply_byte_blocks<Weights, 2, 2>(args, scratch, activations(m), n, k0, k1, sums.block(m, n), ahead.next());
    }
  }
  if (m >= sums.rows) return;
  for (int64_t n = 0; n < sums.columns; n += 64) {
    multiply_byte_blocks<Weights, 4, 1>(args, scratch, activations(m), n, k0, k1, sums.block(m, n), ahead.next());
  }
}

template <typename Weights>
void multiply_byte_tile_panels(const ProductArgs<typename Weights::Args> &args, int64_t begin, int64_t end) {
  const TileUnit tile_unit;
  const Panels panels = cut(args, args.unit_columns, kByteTilesRows);
  const ByteScratch<Weights> scratch(args);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * args.unit_columns, columns = smaller(args.unit_columns, args.n - n0);
    const int64_t m0 = unit / panels.across * kByteTilesRows, rows = smaller(kByteTilesRows, args.m - m0);
    const ByteSums sums{scratch.c, round_up(columns, 64), rows};
    const int64_t calls = sums.pairs() / 32 * (sums.columns / 32) + (sums.pairs() < rows ? sums.columns / 64 : 0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kByteTilesStretch) {
      const int64_t k1 = smaller(k0 + kByteTilesStretch, args.k);
      copy_byte_tiles<Weights>(args, n0, columns, k0, k1);
      if (Weights::kScalesBlocks) {
        copy_scales<Weights>(args, n0, columns, Weights::block(args), k0, k1, scratch.scales, scratch.scale_stride);
      }
      multiply_byte_stretch<Weights>(args, scratch, m0, k0, k1, ahead_of_panel<Weights>(args, n0, columns, k1, calls), sums);
    }
    write_sums_of<Weights>(args, m0, rows, n0, columns, scratch.buffer, [&](int64_t m, int64_t n, Floats (&x)[16]) {
      const int64_t tile = sums.tile(m, n) - scratch.c;
      BNB_UNROLL for (int i = 0; i < 16; ++i) {
        x[i] = Weights::kScalesBlocks ? load<F32>(scratch.totals + tile + i * 16) : from_bits(load_int32(scratch.c + tile + i * 16));
      }
    });
  }
}

template <typename Weights>
ProductPlan plan_byte_tiles(const typename Weights::Args &args, int threads) {
  ProductPlan plan{};
  const bool few = args.m <= kFewByteTilesRows;
  plan.unit_columns = few ? kFewByteTilesColumns : kByteTilesColumns;
  while (plan.unit_columns > kFewByteTilesColumns && cut(args, plan.unit_columns, kByteTilesRows).count() < 4 * threads) {
    plan.unit_columns /= 2;
  }
  plan.units = cut(args, plan.unit_columns, kByteTilesRows).count();
  plan.unit_cost = few ? plan.unit_columns * args.k / 2 : plan.unit_columns * args.k;
  plan.pack_units = ceil_div(args.m, 16);
  plan.pack_unit_cost = 16 * args.k * 2 + Weights::front_bytes(args) / plan.pack_units;
  plan.packed_bytes = Weights::front_bytes(args) + plan.pack_units * byte_tiles_of_row(args) * kTileBytes;
  plan.scratch_bytes = ByteScratch<Weights>::bytes(args, plan.unit_columns);
  return plan;
}

// This method as a row of a table.
template <typename Weights>
constexpr ProductMethod<typename Weights::Args> byte_tile_panels(const char *name, bool (*fits)(const typename Weights::Args &)) {
  return {name, fits, plan_byte_tiles<Weights>, pack_byte_tiles<Weights>, multiply_byte_tile_panels<Weights>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_TILES_H_
