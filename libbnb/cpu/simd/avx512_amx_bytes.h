// SPDX-License-Identifier: MIT
// Products of int8 with AMX, behind those of bf16 (avx512_amx_products.h).
#ifndef BNB_CPU_SIMD_AVX512_AMX_BYTES_H_
#define BNB_CPU_SIMD_AVX512_AMX_BYTES_H_

#include "cpu/simd/avx512_amx_products.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Rows that the next stretch of work will read: 64 bytes of each are asked for with every step of this one.
struct Ahead {
  const char *p;
  int64_t rows, stride;
};
BNB_INLINE void ask_ahead(const Ahead &ahead, int64_t step) {
  for (int64_t row = 0; row < ahead.rows; ++row) __builtin_prefetch(ahead.p + row * ahead.stride + step * 64, 0, 2);
}

// sums of tile (n, m), the kN * kM tiles one behind the other, (+)= weights of tile row n, `steps` tiles of 16 rows of 64 behind each
// other, times activations of tile column m, likewise of 16 groups of four elements by 16 rows; w_stride and a_stride: bytes
// from one tile row or column to the next.
template <int kN, int kM>
BNB_INLINE void multiply_byte_tiles(const char *w, int64_t w_stride, const char *a, int64_t a_stride, int64_t steps, int32_t *sums,
                                    bool first, const Ahead &ahead) {
  static_assert((kN == 2 && kM == 2) || (kN == 4 && kM == 1), "four sums");
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + kTileSums, 64);
    _tile_loadd(2, sums + 2 * kTileSums, 64);
    _tile_loadd(3, sums + 3 * kTileSums, 64);
  }
  for (int64_t step = 0; step < steps; ++step, w += kTileBytes, a += kTileBytes) {
    ask_ahead(ahead, step);
    _tile_loadd(6, a, 64);
    _tile_loadd(4, w, 64);
    _tile_dpbssd(0, 4, 6);
    if constexpr (kM == 2) {
      _tile_loadd(7, a + a_stride, 64);
      _tile_dpbssd(1, 4, 7);
      _tile_loadd(5, w + w_stride, 64);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_loadd(5, w + w_stride, 64);
      _tile_dpbssd(1, 5, 6);
      _tile_loadd(7, w + 2 * w_stride, 64);
      _tile_dpbssd(2, 7, 6);
      _tile_loadd(4, w + 3 * w_stride, 64);
      _tile_dpbssd(3, 4, 6);
    }
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileSums, 64);
  _tile_stored(2, sums + 2 * kTileSums, 64);
  _tile_stored(3, sums + 3 * kTileSums, 64);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_AMX_BYTES_H_
