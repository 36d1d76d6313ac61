// SPDX-License-Identifier: MIT
// The words of products.h in AVX-512 with dot products of bf16 pairs (vdpbf16ps: fp32 sums, subnormals count as zero).
//
// A load of 64 bytes holds 128 codes, four in each 16-bit lane. Shifting the lanes by 0, 4, 8 and 12 bits puts each of the four
// where a permute looks for its index; the permute ignores what is above five bits, and the fifth does not matter if the table
// of 16 codes is there twice. Nibble t of lane j is element 4j + (t ^ 1) of the 128.
#ifndef BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_
#define BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_

#include "cpu/simd/avx512_bf16.h"
#include "cpu/simd/avx512_products.h"

#define BNB_HAS_BF16_PRODUCTS

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTileBytes = 1024;  // 16 rows (of weights, or pairs of elements of activations) of 32 bf16

template <int kNibble>
BNB_INLINE __m512i nibble_index(__m512i v) {
  return kNibble == 0 ? v : _mm512_srli_epi16(v, 4 * kNibble);
}

struct BF16Lookup {
  static constexpr int kSteps = 4, kLanesPerStep = 32;
  using Activation = BF16;
  using Table = __m512i;
  static BNB_INLINE Table table(const uint32_t *codebook) {
    return _mm512_broadcast_i64x4(narrow_bf16(load<F32>(codebook)));
  }
  static constexpr int element(int step, int lane) { return 4 * lane + (step ^ 1); }
  template <int kStep>
  static BNB_INLINE __m512i weights(Table table, Ints v) {
    return _mm512_permutexvar_epi16(nibble_index<kStep>(v), table);
  }
  static BNB_INLINE Floats dot(__m512i weights, const char *activations, Floats sums) {
    return _mm512_dpbf16_ps(sums, __m512bh(weights), __m512bh(_mm512_loadu_si512(activations)));
  }
};

// The bf16 values of 128 codes with a scale for every 32 of them, each product rounded once: step t goes to out + t * stride.
BNB_INLINE void scale_nibbles(Floats codebook, const float (&scales)[4], Ints v, char *out, int64_t stride) {
  const auto two = [&](float a, float b) {
    return __m512i(_mm512_cvtne2ps_pbh(mul(codebook, splat(b)), mul(codebook, splat(a))));
  };
  const auto keep = [&](__m512i index, __m512i select) {  // the nibble, and above it which table
    return _mm512_ternarylogic_epi32(_mm512_set1_epi16(15), index, select, 0xEA);
  };
  const auto store_step = [&](int t, __m512i weights) { _mm512_storeu_si512(out + t * stride, weights); };
  if (scales[0] == scales[1] && scales[2] == scales[3]) {
    const __m512i table = two(scales[0], scales[2]);
    const __m512i select = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    store_step(0, _mm512_permutexvar_epi16(keep(nibble_index<0>(v), select), table));
    store_step(1, _mm512_permutexvar_epi16(keep(nibble_index<1>(v), select), table));
    store_step(2, _mm512_permutexvar_epi16(keep(nibble_index<2>(v), select), table));
    store_step(3, _mm512_permutexvar_epi16(keep(nibble_index<3>(v), select), table));
  } else {
    const __m512i low = two(scales[0], scales[1]), high = two(scales[2], scales[3]);
    __m512i select = _mm512_setzero_si512();
    select = _mm512_inserti32x4(select, _mm_set1_epi16(16), 1);
    select = _mm512_inserti32x4(select, _mm_set1_epi16(32), 2);
    select = _mm512_inserti32x4(select, _mm_set1_epi16(48), 3);
    store_step(0, _mm512_permutex2var_epi16(low, keep(nibble_index<0>(v), select), high));
    store_step(1, _mm512_permutex2var_epi16(low, keep(nibble_index<1>(v), select), high));
    store_step(2, _mm512_permutex2var_epi16(low, keep(nibble_index<2>(v), select), high));
    store_step(3, _mm512_permutex2var_epi16(low, keep(nibble_index<3>(v), select), high));
  }
}

// Sixteen rows of 32 bf16 each (128 elements are four such quarters) as the tiles want them: for step t, 16 rows of pairs of
// elements, each with a pair of every row of activations. rows[i] must be 16 addresses of 64 bytes. Quarter q of 128
// elements fills rows 4q .. 4q + 3 of the tiles of its four steps.
BNB_INLINE void interleave_rows(const __m512i (&rows)[16], int quarter, char *out) {
  // Elements 0 .. 7 of 16 bytes: the pairs (1, 5), (0, 4), (3, 7), (2, 6) belong to steps 0, 1, 2, 3.
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(2, 3, 10, 11, 0, 1, 8, 9, 6, 7, 14, 15, 4, 5, 12, 13));
  Floats x[16];
  BNB_UNROLL for (int i = 0; i < 16; ++i) x[i] = from_bits(_mm512_shuffle_epi8(rows[i], order));
  transpose(x);
  BNB_UNROLL for (int i = 0; i < 16; ++i) {
    _mm512_storeu_si512(out + (i % 4) * kTileBytes + (4 * quarter + i / 4) * 64, bits(x[i]));
  }
}

#if !defined(BNB_HAS_TILES)
// What multiply_tiles needs to be around it.
struct TileUnit {
  BNB_INLINE TileUnit() {}
};

// sums[16 n + row][16 m + column] (+)= weights of tile row n, `steps` tiles one behind the other, times activations of tile column
// m; w_stride and a_stride: bytes from one tile row or column to the next; c_stride: floats from one row of sums to the next.
template <int kN, int kM>
BNB_INLINE void multiply_tiles(const char *w, int64_t w_stride, const char *a, int64_t a_stride, int64_t steps, float *c,
                               int64_t c_stride, bool first) {
  constexpr int kRows = kM == 1 ? 16 : 8;
  for (int row = 0; row < 16 * kN; row += kRows) {
    const char *from = w + (row / 16) * w_stride + (row % 16) * 64;
    Floats sums[kRows][kM];
    BNB_UNROLL for (int i = 0; i < kRows; ++i) {
      BNB_UNROLL for (int m = 0; m < kM; ++m) sums[i][m] = first ? splat(0.0f) : load<F32>(c + (row + i) * c_stride + 16 * m);
    }
    for (int64_t step = 0; step < steps; ++step) {
      for (int pair = 0; pair < 16; ++pair) {
        __m512i x[kM];
        BNB_UNROLL for (int m = 0; m < kM; ++m) x[m] = _mm512_loadu_si512(a + m * a_stride + step * kTileBytes + pair * 64);
        BNB_UNROLL for (int i = 0; i < kRows; ++i) {
          const __m512i weights = _mm512_set1_epi32(bnb::load<int32_t>(from + step * kTileBytes + i * 64, pair));
          BNB_UNROLL for (int m = 0; m < kM; ++m) sums[i][m] = _mm512_dpbf16_ps(sums[i][m], __m512bh(weights), __m512bh(x[m]));
        }
      }
    }
    BNB_UNROLL for (int i = 0; i < kRows; ++i) {
      BNB_UNROLL for (int m = 0; m < kM; ++m) store<F32>(c + (row + i) * c_stride + 16 * m, sums[i][m]);
    }
  }
}
#endif

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_
