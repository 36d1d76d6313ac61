// SPDX-License-Identifier: MIT
// The words of products.h in AVX-512 with dot products of bf16 pairs (vdpbf16ps: fp32 sums, subnormals count as zero).
//
// 4-bit codes: a load of 64 bytes holds 128, four in each 16-bit lane. Shifting the lanes by 0, 4, 8 and 12 bits puts each of the
// four where a permute looks for its index; the permute ignores what is above five bits, and the fifth does not matter if the
// table of 16 codes is there twice. Nibble t of lane j is element 4j + (t ^ 1) of the 128.
//
// 8-bit codes of a sign and a magnitude: a load holds 64. Two permutes of bytes look up both halves of a bf16, ignoring the sign.
// Even codes and odd ones are put together in a vector each, where the codes were: element 2j + t is lane j of vector t.
#ifndef BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_
#define BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_

#include "cpu/simd/avx512_bf16.h"
#include "cpu/simd/avx512_products.h"

#define BNB_HAS_BF16_PRODUCTS
#define BNB_HAS_BYTE_PRODUCTS
#define BNB_HAS_BYTE_TABLES

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTileBytes = 1024;  // 16 rows (of weights, or pairs of elements of activations) of 32 bf16
constexpr int kTileSums = 256;    // their product

template <int kNibble>
BNB_INLINE __m512i nibble_index(__m512i v) {
  return kNibble == 0 ? v : _mm512_srli_epi16(v, 4 * kNibble);
}

using Pairs = __m512i;
BNB_INLINE Floats dot_pairs(Pairs weights, const char *p, Floats sums) {
  return _mm512_dpbf16_ps(sums, __m512bh(weights), __m512bh(_mm512_loadu_si512(p)));
}

struct NibblePairs {
  __m512i values;
};
BNB_INLINE NibblePairs make_nibble_pairs(const uint32_t *codebook, float share) {
  return {_mm512_broadcast_i64x4(narrow_bf16(mul(load<F32>(codebook), splat(share))))};
}
template <int kNibble>
BNB_INLINE Pairs look_up(const NibblePairs &table, Ints v) {
  return _mm512_permutexvar_epi16(nibble_index<kNibble>(v), table.values);
}

// The bf16 values of 128 magnitudes, their upper and their lower bytes.
struct BytePairs {
  __m512i upper[2], lower[2], sign;
};
BNB_INLINE BytePairs make_byte_pairs(const uint8_t *upper, const uint8_t *lower) {
  return {{_mm512_loadu_si512(upper), _mm512_loadu_si512(upper + 64)},
          {_mm512_loadu_si512(lower), _mm512_loadu_si512(lower + 64)},
          _mm512_set1_epi8(-128)};
}
struct TwoPairs {
  Pairs even, odd;
};
BNB_INLINE TwoPairs look_up(const BytePairs &table, __m512i codes) {
  __m512i upper = _mm512_permutex2var_epi8(table.upper[0], codes, table.upper[1]);
  const __m512i lower = _mm512_permutex2var_epi8(table.lower[0], codes, table.lower[1]);
  upper = _mm512_ternarylogic_epi32(upper, codes, table.sign, 0xF8);  // upper | (codes & sign)
  const __m512i lower_half = _mm512_set1_epi16(0xFF);
  return {select_bits(lower_half, lower, _mm512_slli_epi16(upper, 8)), select_bits(lower_half, _mm512_srli_epi16(lower, 8), upper)};
}
BNB_INLINE __m512i load_bytes(const void *p) { return _mm512_loadu_si512(p); }
BNB_INLINE __m512i load_bytes_some(const void *p, int64_t count) {  // 0 <= count <= 64
  return _mm512_maskz_loadu_epi8(count >= 64 ? ~__mmask64(0) : (__mmask64(1) << count) - 1, p);
}

// 256 bytes, looked up for 64 at once.
struct ByteTable {
  __m512i quarter[4];
};
BNB_INLINE ByteTable load_byte_table(const uint8_t *p) {
  return {{_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64), _mm512_loadu_si512(p + 128), _mm512_loadu_si512(p + 192)}};
}
BNB_INLINE __m512i look_up(const ByteTable &table, __m512i v) {
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), _mm512_permutex2var_epi8(table.quarter[0], v, table.quarter[1]),
                                _mm512_permutex2var_epi8(table.quarter[2], v, table.quarter[3]));
}

// The first and the second of every pair.
BNB_INLINE Floats first_of(Pairs x) { return from_bits(shift_left<16>(x)); }
BNB_INLINE Floats second_of(Pairs x) { return from_bits(and_int(x, splat_bits(0xFFFF0000u))); }

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

// Each number of a with that of b as a pair, rounded once; and what rounding left.
BNB_INLINE BF16Parts join_pairs(Floats a, Floats b) {
  const Ints order = or_int(iota_int(), shift_left<16>(add_int(iota_int(), splat_int(16))));
  const BF16Parts parts = split(a, b);
  return {_mm512_permutexvar_epi16(order, parts.high), _mm512_permutexvar_epi16(order, parts.low)};
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

// The same of pairs, lane i of `scale` for pair i.
template <int kParts>
BNB_INLINE void scale_pairs(Pairs weights, Floats scale, char *out, char *low_out) {
  const BF16Parts scaled = join_pairs(mul(first_of(weights), scale), mul(second_of(weights), scale));
  _mm512_storeu_si512(out, scaled.high);
  if (kParts == 2) _mm512_storeu_si512(low_out, scaled.low);
}

// The same of 64 codes of 8 bits, lane i of `scale` for codes 4i .. 4i + 3.
template <int kParts>
BNB_INLINE void scale_bytes(const BytePairs &table, Floats scale, __m512i codes, char *out, int64_t stride, int64_t part_stride) {
  const TwoPairs weights = look_up(table, codes);
  scale_pairs<kParts>(weights.even, scale, out, out + part_stride);
  scale_pairs<kParts>(weights.odd, scale, out + stride, out + part_stride + stride);
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

// Weights and activations that TileUnit adds the products of.
struct TileRun {
  const char *w, *a;
};

// Sixteen rows of 32 bf16 each as the tiles want them: for step t, 16 rows of pairs of elements, each with a pair of every row of
// activations. kTiles: the steps of a load of codes, 4 for those of 4 bits and 2 for those of 8. As many `rows` make a load: part q
// of them fills rows 16 / kTiles * q and on of the tiles of its steps.
template <int kTiles>
BNB_INLINE void interleave_rows(const __m512i (&rows)[16], int part, char *out) {
  // Elements 0 .. 7 of 16 bytes. Of 4-bit codes, the pairs (1, 5), (0, 4), (3, 7), (2, 6) belong to steps 0, 1, 2, 3.
  const __m128i of_nibbles = _mm_setr_epi8(2, 3, 10, 11, 0, 1, 8, 9, 6, 7, 14, 15, 4, 5, 12, 13);
  // Of 8-bit codes, (0, 2) and (4, 6) belong to step 0, (1, 3) and (5, 7) to step 1.
  const __m128i of_bytes = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  const __m512i order = _mm512_broadcast_i32x4(kTiles == 4 ? of_nibbles : of_bytes);
  constexpr int kRowsPerPart = 16 / kTiles;
  Floats x[16];
  BNB_UNROLL for (int i = 0; i < 16; ++i) x[i] = from_bits(_mm512_shuffle_epi8(rows[i], order));
  transpose(x);
  BNB_UNROLL for (int i = 0; i < 16; ++i) {
    _mm512_storeu_si512(out + (i % kTiles) * kTileBytes + (kRowsPerPart * part + i / kTiles) * 64, bits(x[i]));
  }
}

#if !defined(BNB_HAS_TILES)
// What multiplies tiles, one object per thread.
struct TileUnit {
  BNB_INLINE TileUnit() {}

  // Tile kM * n + m of c = or, if not first, += for each run: weights of tile row n, `steps` tiles one behind the other, times
  // activations of tile column m. w_stride and a_stride: bytes from one tile row or column to the next. A tile of sums is 16
  // rows, of weights, of 16.
  template <int kN, int kM, int kRuns>
  BNB_INLINE void multiply(const TileRun (&runs)[kRuns], int64_t w_stride, int64_t a_stride, int64_t steps, float *c,
                           bool first) const {
    constexpr int kRows = kM == 1 ? 16 : 8;
    for (int row = 0; row < 16 * kN; row += kRows) {
      Floats sums[kRows][kM];
      float *to = c + row / 16 * kM * kTileSums + row % 16 * 16;
      BNB_UNROLL for (int i = 0; i < kRows; ++i) {
        BNB_UNROLL for (int m = 0; m < kM; ++m) sums[i][m] = first ? splat(0.0f) : load<F32>(to + m * kTileSums + i * 16);
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
        BNB_UNROLL for (int m = 0; m < kM; ++m) store<F32>(to + m * kTileSums + i * 16, sums[i][m]);
      }
    }
  }
};
#endif

BNB_INLINE Ints add_byte_products(Ints sums, Ints u, Ints s) { return _mm512_dpbusd_epi32(sums, u, s); }

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_BF16_PRODUCTS_H_
