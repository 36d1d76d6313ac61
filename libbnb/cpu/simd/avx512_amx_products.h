// SPDX-License-Identifier: MIT
// The words of products.h with AMX: eight tile registers of 16 rows of 64 bytes.
#ifndef BNB_CPU_SIMD_AVX512_AMX_PRODUCTS_H_
#define BNB_CPU_SIMD_AVX512_AMX_PRODUCTS_H_

#define BNB_HAS_TILES
#include "cpu/simd/avx512_bf16_products.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// All eight tiles have their full size while an object of this lives. Configured per thread.
class TileUnit {
 public:
  BNB_INLINE TileUnit() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    static_assert(sizeof configuration == 64, "what ldtilecfg reads");
    // gcc believes that only the first eight bytes are read, and need not have stored the others.
    __asm__ volatile("" : : "r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
  }
  BNB_INLINE ~TileUnit() { _tile_release(); }
  TileUnit(const TileUnit &) = delete;
  TileUnit &operator=(const TileUnit &) = delete;

  // See avx512_bf16_products.h. Tiles 0 .. 3 hold sums, 4 and 5 (and 7) weights, 6 and 7 activations.
  template <int kN, int kM, int kRuns>
  BNB_INLINE void multiply(const TileRun (&runs)[kRuns], int64_t w_stride, int64_t a_stride, int64_t steps, float *c,
                           bool first) const {
    static_assert((kN == 2 && kM == 2) || (kN == 4 && kM == 1), "four sums");
    float *c1 = c + kTileSums, *c2 = c + 2 * kTileSums, *c3 = c + 3 * kTileSums;
    if (first) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, c, 64);
      _tile_loadd(1, c1, 64);
      _tile_loadd(2, c2, 64);
      _tile_loadd(3, c3, 64);
    }
    for (const TileRun &run : runs) {
      const char *w = run.w, *a = run.a;
      for (int64_t step = 0; step < steps; ++step, w += kTileBytes, a += kTileBytes) {
        _tile_loadd(6, a, 64);
        _tile_loadd(4, w, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (kM == 2) {
          _tile_loadd(7, a + a_stride, 64);
          _tile_dpbf16ps(1, 4, 7);
          _tile_loadd(5, w + w_stride, 64);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        } else {
          _tile_loadd(5, w + w_stride, 64);
          _tile_dpbf16ps(1, 5, 6);
          _tile_loadd(7, w + 2 * w_stride, 64);
          _tile_dpbf16ps(2, 7, 6);
          _tile_loadd(4, w + 3 * w_stride, 64);
          _tile_dpbf16ps(3, 4, 6);
        }
      }
    }
    _tile_stored(0, c, 64);
    _tile_stored(1, c1, 64);
    _tile_stored(2, c2, 64);
    _tile_stored(3, c3, 64);
  }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#include "cpu/simd/avx512_amx_bytes.h"

#endif  // BNB_CPU_SIMD_AVX512_AMX_PRODUCTS_H_
