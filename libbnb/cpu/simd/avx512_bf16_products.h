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

// 32 numbers as bf16, and what that leaves of them as bf16.
struct BF16Parts {
  __m512i high, low;
};
BNB_INLINE BF16Parts split(Floats a, Floats b) {
  const __m512i high = __m512i(_mm512_cvtne2ps_pbh(b, a));
  const Floats rest_a = sub(a, widen_bf16(_mm512_castsi512_si256(high)));
  const Floats rest_b = sub(b, widen_bf16(_mm512_extracti64x4_epi64(high, 1)));
  return {high, __m512i(_mm512_cvtne2ps_pbh(rest_b, rest_a))};
}

// The bf16 values of 128 codes with a scale for every 32 of them, each product rounded once: step t goes to out + t * stride. With
// two parts, what rounding left of them goes to out + part_stride + t * stride.
template <int kParts>
BNB_INLINE void scale_nibbles(Floats codebook, const float (&scales)[4], __m512i v, char *out, int64_t stride,
                              int64_t part_stride) {
  const __m512i nibble = _mm512_set1_epi16(15);
  const __m512i index[4] = {nibble_index<0>(v), nibble_index<1>(v), nibble_index<2>(v), nibble_index<3>(v)};
  const auto two = [&](int a, int b) { return split(mul(codebook, splat(scales[a])), mul(codebook, splat(scales[b]))); };
  // A nibble, and above it which table: (15 & index) | which.
  const auto choose = [&](int t, __m512i which) { return _mm512_ternarylogic_epi32(nibble, index[t], which, 0xEA); };
  if (scales[0] == scales[1] && scales[2] == scales[3]) {
    const BF16Parts table = two(0, 2);
    const __m512i which = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    BNB_UNROLL for (int t = 0; t < 4; ++t) {
      const __m512i at = choose(t, which);
      _mm512_storeu_si512(out + t * stride, _mm512_permutexvar_epi16(at, table.high));
      if (kParts == 2) _mm512_storeu_si512(out + part_stride + t * stride, _mm512_permutexvar_epi16(at, table.low));
    }
  } else {
    const BF16Parts first = two(0, 1), second = two(2, 3);
    __m512i which = _mm512_inserti32x4(_mm512_setzero_si512(), _mm_set1_epi16(16), 1);
    which = _mm512_inserti32x4(which, _mm_set1_epi16(32), 2);
    which = _mm512_inserti32x4(which, _mm_set1_epi16(48), 3);
    BNB_UNROLL for (int t = 0; t < 4; ++t) {
      const __m512i at = choose(t, which);
      _mm512_storeu_si512(out + t * stride, _mm512_permutex2var_epi16(first.high, at, second.high));
      if (kParts == 2) {
        _mm512_storeu_si512(out + part_stride + t * stride, _mm512_permutex2var_epi16(first.low, at, second.low));
      }
    }
  }
}

// 32 activations from p, the first `count` of them, as bf16 parts. fp16 has 11 bits: two parts are all of it. An infinity has no
// rest.
template <typename Tag>
BNB_INLINE BF16Parts load_parts(const char *p, int64_t count) {
  const __mmask32 mask = count >= 32 ? ~__mmask32(0) : count <= 0 ? __mmask32(0) : (__mmask32(1) << count) - 1;
  const __m512i halves = _mm512_maskz_loadu_epi16(mask, p);
  if constexpr (Tag::kDType == DType::kBF16) return {halves, _mm512_setzero_si512()};
  const BF16Parts parts = split(widen_fp16(_mm512_castsi512_si256(halves)), widen_fp16(_mm512_extracti64x4_epi64(halves, 1)));
  const __m512i exponent = _mm512_set1_epi16(0x7C00);
  const __mmask32 finite = _mm512_cmpneq_epi16_mask(_mm512_and_si512(halves, exponent), exponent);
  return {parts.high, _mm512_maskz_mov_epi16(finite, parts.low)};
}

// Weights and activations that multiply_tiles adds the products of.
struct TileRun {
  const char *w, *a;
};

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

// sums[16 n + row][16 m + column] (+)= for each run: weights of tile row n, `steps` tiles one behind the other, times
// activations of tile column m; w_stride and a_stride: bytes from one tile row or column to the next; c_stride: floats from one
// row of sums to the next.
template <int kN, int kM, int kRuns>
BNB_INLINE void multiply_tiles(const TileRun (&runs)[kRuns], int64_t w_stride, int64_t a_stride, int64_t steps, float *c,
                               int64_t c_stride, bool first) {
  constexpr int kRows = kM == 1 ? 16 : 8;
  for (int row = 0; row < 16 * kN; row += kRows) {
    Floats sums[kRows][kM];
    BNB_UNROLL for (int i = 0; i < kRows; ++i) {
      BNB_UNROLL for (int m = 0; m < kM; ++m) sums[i][m] = first ? splat(0.0f) : load<F32>(c + (row + i) * c_stride + 16 * m);
    }
    for (const TileRun &run : runs) {
      const char *w = run.w + (row / 16) * w_stride + (row % 16) * 64;
      for (int64_t step = 0; step < steps; ++step) {
        for (int pair = 0; pair < 16; ++pair) {
          __m512i x[kM];
          BNB_UNROLL for (int m = 0; m < kM; ++m) {
            x[m] = _mm512_loadu_si512(run.a + m * a_stride + step * kTileBytes + pair * 64);
          }
          BNB_UNROLL for (int i = 0; i < kRows; ++i) {
            const __m512i weights = _mm512_set1_epi32(bnb::load<int32_t>(w + step * kTileBytes + i * 64, pair));
            BNB_UNROLL for (int m = 0; m < kM; ++m) {
              sums[i][m] = _mm512_dpbf16_ps(sums[i][m], __m512bh(weights), __m512bh(x[m]));
            }
          }
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
