// SPDX-License-Identifier: MIT
// The 4-bit product of bf16 activations in tiles of 16 x 32 bf16, with AMX or with dot products of pairs. SUM.
//
// As in gemm_4bit_panel.h, but weights are decoded into bf16, each codebook * scale rounded once. Rows of weights become rows of
// tiles as they come out of the look-up; activations take the order of K that this leaves (avx512_bf16_products.h), in
// pack_tiles(): for each 16 rows of them, tiles of 16 pairs of elements x 16 rows.
#ifndef BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_
#define BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_

#include "cpu/kernels/gemm_4bit_few.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// A unit: its decoded weights and its sums fit into a level 2 cache of 1 MiB together, the sums in one of half that for few rows.
constexpr int64_t kTilesColumns = 256, kTilesRows = 512, kTilesStretch = 1024;
constexpr int64_t kFewTilesColumns = 64;  // for up to 16 rows of activations
constexpr int64_t kTilesSumStride = kTilesRows + 16;
constexpr int64_t kGroupTiles = 4;  // tiles that a load of 128 codes has a row in

bool is_few_bf16(const Gemm4bitArgs &args) {
  return args.dtype == DType::kBF16 && args.m <= 4 && rows_are_blocks(args);
}
bool fits_tiles(const Gemm4bitArgs &args) {
  return args.dtype == DType::kBF16 && args.k % args.blocksize == 0 && args.blocksize % 32 == 0 &&
         (args.blocksize % kGroup == 0 || kGroup % args.blocksize == 0);
}

BNB_INLINE int64_t columns_of_unit(const Gemm4bitArgs &args) { return args.m <= 16 ? kFewTilesColumns : kTilesColumns; }
BNB_INLINE int64_t tiles_of_row(const Gemm4bitArgs &args) { return ceil_div(args.k, kGroup) * kGroupTiles; }

void pack_tiles(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const char *a = static_cast<const char *>(args.a);
  for (int64_t group = begin; group < end; ++group) {
    const int64_t rows = smaller(16, args.m - group * 16);
    char *to = args.packed + group * tiles_of_row(args) * kTileBytes;
    for (int64_t k = 0; k < round_up(args.k, kGroup); k += 32) {
      const int64_t count = args.k - k;
      const __mmask32 mask = count >= 32 ? ~__mmask32(0) : count <= 0 ? 0 : (__mmask32(1) << count) - 1;
      __m512i x[16];
      BNB_UNROLL for (int i = 0; i < 16; ++i) {
        x[i] = _mm512_maskz_loadu_epi16(i < rows ? mask : 0, a + ((group * 16 + i) * args.a_stride + k) * 2);
      }
      const int quarter = int(k % kGroup / 32);
      interleave_rows(x, quarter, to);
      if (quarter == 3) to += kGroupTiles * kTileBytes;
    }
  }
}

// Elements [k0, k1) of a row of weights, zeros up to the next multiple of kGroup; to: its row in its first tile.
BNB_INLINE void decode_tile_row(const Gemm4bitArgs &args, Floats codebook, int64_t row, int64_t k0, int64_t k1, char *to) {
  const int64_t first = k0 / args.blocksize, count = ceil_div(k1, args.blocksize) - first;
  float buffer[kScalesAtOnce];
  const char *from = scales_of(args.absmax, row * (args.k / args.blocksize) + first, count, buffer);
  const uint8_t *w = args.b + (row * args.k + k0) / 2;
  int64_t left_in_block = args.blocksize - k0 % args.blocksize;
  for (int64_t k = k0; k < k1; k += kGroup, w += kGroupBytes, to += kGroupTiles * kTileBytes) {
    prefetch(w + args.k / 2);  // this stretch of the next row
    const int64_t left = k1 - k;
    const Ints v = left >= kGroup ? load_int32(w) : load_int32_some(w, left / 8);
    float scales[4];
    for (int64_t i = 0; i < 4; ++i) {
      scales[i] = i * 32 < left ? bnb::load<float>(from, 0) : 0.0f;
      left_in_block -= 32;
      if (left_in_block == 0) {
        left_in_block = args.blocksize;
        from += 4;
      }
    }
    scale_nibbles(codebook, scales, v, to, kTileBytes);
  }
}

BNB_INLINE void clear_tile_row(int64_t tiles, char *to) {
  for (int64_t i = 0; i < tiles; ++i) _mm512_storeu_si512(to + i * kTileBytes, _mm512_setzero_si512());
}

void multiply_tile_panels(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const TileUnit unit_of_tiles;
  const bool few = args.m <= 16;
  const Panels panels = cut(args, columns_of_unit(args), kTilesRows);
  const Floats codebook = load<F32>(codebook_of(args.quant_type));
  const int64_t a_stride = tiles_of_row(args) * kTileBytes, step = few ? 64 : 32;
  constexpr int64_t kRowTiles = kTilesStretch / 32, kWeightTileStride = kRowTiles * kTileBytes;
  char *weights = args.scratch;
  float *c = reinterpret_cast<float *>(weights + panels.columns / 16 * kWeightTileStride);
  const int64_t c_stride = few ? 16 : kTilesSumStride;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * panels.columns, columns = smaller(panels.columns, args.n - n0);
    const int64_t m0 = unit / panels.across * kTilesRows, rows = smaller(kTilesRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kTilesStretch) {
      const int64_t k1 = smaller(k0 + kTilesStretch, args.k), tiles = ceil_div(k1 - k0, kGroup) * kGroupTiles;
      for (int64_t n = 0; n < round_up(columns, step); ++n) {
        char *to = weights + n / 16 * kWeightTileStride + n % 16 * 64;
        if (n < columns) {
          decode_tile_row(args, codebook, n0 + n, k0, k1, to);
        } else {
          clear_tile_row(tiles, to);
        }
      }
      for (int64_t m = 0; m < rows; m += few ? 16 : 32) {
        const char *a = args.packed + (m0 + m) / 16 * a_stride + k0 / 32 * kTileBytes;
        for (int64_t n = 0; n < columns; n += step) {
          const char *w = weights + n / 16 * kWeightTileStride;
          if (few) {
            multiply_tiles<4, 1>(w, kWeightTileStride, a, a_stride, tiles, c + n * c_stride + m, c_stride, k0 == 0);
          } else {
            multiply_tiles<2, 2>(w, kWeightTileStride, a, a_stride, tiles, c + n * c_stride + m, c_stride, k0 == 0);
          }
        }
      }
    }
    write_sums<BF16>(args, c, c_stride, m0, rows, n0, columns);
  }
}

Gemm4bitPlan plan_tiles(const Gemm4bitArgs &args) {
  Gemm4bitPlan plan{};
  const Panels panels = cut(args, columns_of_unit(args), kTilesRows);
  plan.units = panels.count();
  plan.unit_cost = panels.columns * args.k;
  plan.pack_units = ceil_div(args.m, 16);
  plan.pack_unit_cost = args.k * 64;
  plan.packed_bytes = round_up(plan.pack_units, 2) * tiles_of_row(args) * kTileBytes;
  plan.scratch_bytes = panels.columns * (kTilesStretch * 2 + (args.m <= 16 ? 16 : kTilesSumStride) * 4);
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_4BIT_TILES_H_
