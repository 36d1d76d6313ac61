// SPDX-License-Identifier: MIT
// The 4-bit product in fp32 for any shape and dtype. SUM.
//
// A unit of work is a panel of columns of out (rows of weights) by many rows of activations. Weights are decoded into fp32 once per unit,
// a stretch of K at a time, and multiplied from the cache: lanes run along rows of activations, which pack_panel() has
// turned on their side, and a weight goes to all lanes. Sums rest in scratch between stretches.
//
// Where rows are whole blocks, codes are looked up where they lie, as for few rows, and K has that order on both sides. Otherwise
// K keeps its own order and weights are decoded piece by piece.
#ifndef BNB_CPU_KERNELS_GEMM_4BIT_PANEL_H_
#define BNB_CPU_KERNELS_GEMM_4BIT_PANEL_H_

#include "cpu/kernels/gemm_4bit_few.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kPanelColumns = 240, kPanelRows = 256;  // multiples of kTileRows and of kLanes
constexpr int64_t kStretch = 256;                         // of K: a multiple of kGroup
constexpr int64_t kWeightStride = kStretch + 16;          // so that rows do not lie in the same set of the cache
constexpr int64_t kSumStride = kPanelRows + 16;
static_assert(kPanelColumns % kTileRows == 0 && kPanelColumns % kLanes == 0 && kStretch % kGroup == 0, "whole tiles");

BNB_INLINE int64_t padded_k(const Gemm4bitArgs &args) { return round_up(args.k, kGroup); }

// Where element k of a row goes.
BNB_INLINE int64_t place_of(bool ordered, int64_t k) {
  if (ordered) return k;
  const int64_t in_group = k % kGroup;
  return k - in_group + ((in_group % 8) ^ 1) * kLanes + in_group / 8;
}

// Activations as fp32: for each kLanes rows, [padded_k][kLanes], zeros where there is nothing.
template <typename Tag>
BNB_INLINE void pack_rows(const Gemm4bitKernelArgs &args, int64_t group) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const bool ordered = !rows_are_blocks(args);
  const int64_t first = group * kLanes, rows = smaller(kLanes, args.m - first), padded = padded_k(args);
  const char *a = static_cast<const char *>(args.a) + first * args.a_stride * kSize;
  char *to = args.packed + group * padded * kVectorBytes;
  for (int64_t k = 0; k < padded; k += kLanes) {
    const int64_t count = smaller(kLanes, args.k - k);
    Floats x[kLanes];
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      const char *from = a + (i * args.a_stride + k) * kSize;
      x[i] = i >= rows || count <= 0 ? splat(0.0f) : count == kLanes ? load<Tag>(from) : load_some<Tag>(from, count);
    }
    transpose(x);
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) store<F32>(to + place_of(ordered, k + i) * kVectorBytes, x[i]);
  }
}

void pack_panel(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t group = begin; group < end; ++group) pack_rows<decltype(tag)>(args, group);
  });
}

template <int kStep = 0>
BNB_INLINE void decode_group(const NibbleFloats &table, Ints v, Floats scale, float *out) {
  if constexpr (kStep < 8) {
    store<F32>(out + kStep * kLanes, mul(look_up<kStep>(table, v), scale));
    decode_group<kStep + 1>(table, v, scale, out);
  }
}

// Elements [k0, k1) of a row that is made of whole blocks, up to the next multiple of kGroup. ahead: bytes to what is read next.
BNB_INLINE void decode_blocks(const Gemm4bitArgs &args, const NibbleFloats &table, Ints index, const Blocks &blocks, int64_t row,
                              int64_t k0, int64_t k1, int64_t ahead, float *out) {
  float buffer[kScalesAtOnce];
  const char *scales = scales_of(args.absmax, row * blocks.per_row + blocks.first, blocks.count, buffer);
  const uint8_t *w = args.b + (row * args.k + k0) / 2;
  if (args.blocksize < kGroup) {
    const int64_t per_load = kGroup / args.blocksize, lanes = args.blocksize / 8;
    for (int64_t block = 0; block < blocks.count; block += per_load, w += kGroupBytes, out += kGroup) {
      prefetch(w + ahead);
      if (blocks.count - block >= per_load) {
        decode_group(table, load_int32(w), spread(scales + block * 4, per_load, index), out);
      } else {
        const int64_t left = blocks.count - block;
        const Floats scale = select(first_lanes(left * lanes), spread(scales + block * 4, left, index), splat(0.0f));
        decode_group(table, load_int32_some(w, left * lanes), scale, out);
      }
    }
  } else {
    int64_t left = blocks.left_in_first;
    for (int64_t k = k0; k < k1; k += kGroup, w += kGroupBytes, out += kGroup) {
      prefetch(w + ahead);
      decode_group(table, load_int32(w), splat(bnb::load<float>(scales, 0)), out);
      left -= kGroup;
      if (left == 0) {
        left = args.blocksize;
        scales += 4;
      }
    }
  }
}

// The same of a row that begins and ends anywhere, zeros up to the next multiple of kGroup.
BNB_INLINE void decode_pieces(const Gemm4bitArgs &args, int64_t row, int64_t k0, int64_t k1, float *out) {
  constexpr int64_t kCount = NibbleTable<F32>::kCount;
  const uint32_t *codebook = codebook_of(args.quant_type);
  int64_t i = row * args.k + k0;
  const int64_t end = row * args.k + k1;
  while (i < end) {
    const int64_t block = i / args.blocksize, left = args.blocksize - i % args.blocksize;
    int64_t count = smaller(left, end - i);
    const float scale = args.absmax.at(block);
    const NibbleTable<F32> table = make_nibble_table<F32>(codebook, scale);
    if (i % 2) {  // the low half of a byte, whose high half was the row before
      *out++ = formats::float_from_bits(codebook[args.b[i / 2] & 15]) * scale;
      ++i;
      --count;
    }
    for (; count >= kCount; count -= kCount, i += kCount, out += kCount) expand_nibbles(table, args.b + i / 2, out);
    if (count > 0) {
      expand_nibbles_some(table, args.b + i / 2, out, count);
      i += count;
      out += count;
    }
  }
  std::memset(out, 0, size_t(round_up(k1 - k0, kGroup) - (k1 - k0)) * sizeof(float));
}

// c[n * kSumStride + m] += w[n * kWeightStride + k] * a[k][m] over k, for kTileRows n and kVectors vectors of m. The sum of a stretch
// starts at zero: errors then grow with its length and the number of stretches, not with their product.
template <int kVectors>
BNB_INLINE void multiply_tile(const float *w, const char *a, int64_t a_stride, int64_t k, float *c, bool first) {
  Floats sums[kTileRows][kVectors];
  BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) sums[n][v] = splat(0.0f);
  }
  for (int64_t i = 0; i < k; ++i, ++w, a += kVectorBytes) {
    Floats x[kVectors];
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) x[v] = load<F32>(a + v * a_stride);
    BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
      const Floats weight = splat(w[n * kWeightStride]);
      BNB_UNROLL for (int v = 0; v < kVectors; ++v) sums[n][v] = fma(weight, x[v], sums[n][v]);
    }
  }
  BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
      float *to = c + n * kSumStride + v * kLanes;
      store<F32>(to, first ? sums[n][v] : add(sums[n][v], load<F32>(to)));
    }
  }
}

void multiply_panel(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const Panels panels = cut(args, kPanelColumns, kPanelRows);
  const bool ordered = !rows_are_blocks(args);
  const NibbleFloats table = make_nibble_floats(codebook_of(args.quant_type));
  const Ints index = block_of_lane(args.blocksize);
  const int64_t a_stride = padded_k(args) * kVectorBytes;
  float *weights = reinterpret_cast<float *>(args.scratch), *c = weights + kPanelColumns * kWeightStride;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * kPanelColumns, columns = smaller(kPanelColumns, args.n - n0);
    const int64_t m0 = unit / panels.across * kPanelRows, rows = smaller(kPanelRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kStretch) {
      const int64_t k1 = smaller(k0 + kStretch, args.k);
      const Blocks blocks = blocks_of(args, k0, k1);
      const int64_t ahead = k1 < args.k ? kStretch / 2 : (columns * args.k - k0) / 2;
      for (int64_t n = 0; n < round_up(columns, kTileRows); ++n) {
        float *out = weights + n * kWeightStride;
        if (n >= columns) {
          std::memset(out, 0, kStretch * sizeof(float));
        } else if (ordered) {
          decode_pieces(args, n0 + n, k0, k1, out);
        } else {
          decode_blocks(args, table, index, blocks, n0 + n, k0, k1, ahead, out);
        }
      }
      const int64_t k = round_up(k1 - k0, kGroup);
      for (int64_t m = 0; m < rows; m += kTileVectors * kLanes) {
        const char *a = args.packed + (m0 + m) / kLanes * a_stride + k0 * kVectorBytes;
        for (int64_t n = 0; n < columns; n += kTileRows) {
          const float *w = weights + n * kWeightStride;
          if (rows - m > kLanes) {
            multiply_tile<kTileVectors>(w, a, a_stride, k, c + n * kSumStride + m, k0 == 0);
          } else {
            multiply_tile<1>(w, a, a_stride, k, c + n * kSumStride + m, k0 == 0);
          }
        }
      }
    }
    with_float(args.dtype, [&](auto tag) { write_sums<decltype(tag)>(args, c, kSumStride, m0, rows, n0, columns); });
  }
}

ProductPlan plan_panel(const Gemm4bitArgs &args, int) {
  ProductPlan plan{};
  plan.units = cut(args, kPanelColumns, kPanelRows).count();
  plan.unit_cost = kPanelColumns * args.k;
  plan.pack_units = ceil_div(args.m, kLanes);
  plan.pack_unit_cost = args.k * kLanes * 8;
  plan.packed_bytes = round_up(plan.pack_units, kTileVectors) * padded_k(args) * kVectorBytes;
  plan.scratch_bytes = kPanelColumns * (kWeightStride + kSumStride) * int64_t(sizeof(float));
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_4BIT_PANEL_H_
