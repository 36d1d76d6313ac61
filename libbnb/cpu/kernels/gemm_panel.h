// SPDX-License-Identifier: MIT
// Products with quantized weights in fp32 for any shape and dtype. SUM.
//
// A unit of work is a panel of columns of out (rows of weights) by many rows of activations. Weights are decoded into fp32 once per unit,
// a stretch of K at a time, and multiplied from the cache: lanes run along rows of activations, which pack_panel() has
// turned on their side, and a weight goes to all lanes. Sums rest in scratch between stretches.
//
// Where rows are whole blocks, codes are decoded as for few rows, and K has the look-up's order on both sides. Otherwise K keeps
// its own order and weights are decoded piece by piece. A format is a class with
//   FloatLookup                                   a look-up (gemm_methods.h) of weights as fp32
//   kPieces                                       whether rows need not be whole blocks; then also
//   decode_pieces(args, row, k0, k1, out)         elements [k0, k1) of a row that begins and ends anywhere, as fp32
#ifndef BNB_CPU_KERNELS_GEMM_PANEL_H_
#define BNB_CPU_KERNELS_GEMM_PANEL_H_

#include "cpu/kernels/gemm_few.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kPanelColumns = 240, kLeastPanelColumns = 48, kPanelRows = 512;  // multiples of kTileRows and of kLanes
constexpr int64_t kStretch = 256;                         // of K: a multiple of all kGroup
constexpr int64_t kWeightStride = kStretch + 16;          // so that rows do not lie in the same set of the cache
constexpr int64_t kSumStride = kPanelRows + 16;
static_assert(kPanelColumns % kTileRows == 0 && kPanelColumns % kLanes == 0, "whole tiles");

template <typename Lookup>
BNB_INLINE int64_t padded_k(const GemmArgs &args) {
  return round_up(args.k, Lookup::kGroup);
}

// Where the elements of a group go: the inverse of element().
template <typename Lookup>
struct Places {
  int64_t of[Lookup::kGroup];
  constexpr Places() : of() {
    for (int step = 0; step < Lookup::kSteps; ++step) {
      for (int lane = 0; lane < kLanes; ++lane) of[Lookup::element(step, lane)] = step * kLanes + lane;
    }
  }
};

// Packed activations lie stretch by stretch, so that one stretch of many rows is read from one end to the other. Where that of rows
// kLanes * group and on begins, and how long it is.
template <typename Lookup>
BNB_INLINE int64_t length_of_stretch(const GemmArgs &args, int64_t k0) {
  return smaller(kStretch, padded_k<Lookup>(args) - k0);
}
template <typename Lookup>
BNB_INLINE char *packed_stretch(const GemmKernelArgs &args, int64_t group, int64_t k0) {
  const int64_t groups = round_up(ceil_div(args.m, kLanes), kTileVectors);
  return args.packed + (k0 * groups + length_of_stretch<Lookup>(args, k0) * group) * kVectorBytes;
}

// Activations as fp32: for each stretch and each kLanes rows, [k][kLanes], zeros where there is nothing.
template <typename Lookup, typename Tag>
BNB_INLINE void pack_rows(const GemmKernelArgs &args, int64_t group) {
  static constexpr Places<Lookup> kPlaces{};
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kGroup = Lookup::kGroup;
  const bool ordered = !rows_are_blocks<Lookup>(args);
  const int64_t first = group * kLanes, rows = smaller(kLanes, args.m - first), padded = padded_k<Lookup>(args);
  const char *a = static_cast<const char *>(args.a) + first * args.a_stride * kSize;
  char *to = nullptr;
  for (int64_t k = 0; k < padded; k += kLanes) {
    const int64_t count = smaller(kLanes, args.k - k), in_group = k % kGroup, in_stretch = k % kStretch;
    if (in_stretch == 0) to = packed_stretch<Lookup>(args, group, k);
    Floats x[kLanes];
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      const char *from = a + (i * args.a_stride + k) * kSize;
      x[i] = i >= rows || count <= 0 ? splat(0.0f) : count == kLanes ? load<Tag>(from) : load_some<Tag>(from, count);
    }
    transpose(x);
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      const int64_t place = ordered ? in_group + i : kPlaces.of[in_group + i];
      store<F32>(to + (in_stretch - in_group + place) * kVectorBytes, x[i]);
    }
  }
}

template <typename Lookup>
void pack_panel(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t group = begin; group < end; ++group) pack_rows<Lookup, decltype(tag)>(args, group);
  });
}

template <typename Lookup, int kStep = 0>
BNB_INLINE void decode_group(const typename Lookup::Table &table, const typename Lookup::Group &group, Floats scale, float *out) {
  if constexpr (kStep < Lookup::kSteps) {
    Floats weights = Lookup::template weights<kStep>(table, group);
    if constexpr (Lookup::kFactor) weights = mul(weights, splat(table.factor));
    store<F32>(out + kStep * kLanes, mul(weights, scale));
    decode_group<Lookup, kStep + 1>(table, group, scale, out);
  }
}

// Elements [k0, k1) of a row that is made of whole blocks, up to the next multiple of kGroup. ahead: codes to what will be read soon.
template <typename Lookup>
BNB_INLINE void decode_blocks(const GemmArgs &args, const typename Lookup::Table &table, Ints index, const Blocks &blocks,
                              int64_t row, int64_t k0, int64_t k1, int64_t ahead, float *out) {
  constexpr int64_t kGroup = Lookup::kGroup;
  float buffer[kScalesAtOnce];
  const char *scales = scales_of(args.scales, row * blocks.per_row + blocks.first, blocks.count, buffer);
  const uint8_t *w = args.b + bytes_of_codes<Lookup>(row * args.k + k0);
  prefetch_scales(args.scales, row * blocks.per_row + blocks.first + ahead / args.blocksize);
  const int64_t per_load = blocks_share_loads<Lookup>(args) ? kGroup / args.blocksize : 0;
  int64_t left_in_block = blocks.left_in_first;
  for (int64_t k = k0; k < k1; k += kGroup, w += Lookup::kGroupBytes, out += kGroup) {
    prefetch(w + bytes_of_codes<Lookup>(ahead));
    const int64_t left = k1 - k;
    const auto group = left >= kGroup ? Lookup::read(table, w) : Lookup::read_some(table, w, left);
    if (per_load > 0 && left >= kGroup) {
      decode_group<Lookup>(table, group, spread(scales, per_load, index), out);
      scales += per_load * 4;
    } else if (per_load > 0) {
      const Floats scale = spread(scales, left / args.blocksize, index);
      decode_group<Lookup>(table, group, select(lanes_below<Lookup>(left), scale, splat(0.0f)), out);
    } else {
      decode_group<Lookup>(table, group, splat(bnb::load<float>(scales, 0)), out);
      left_in_block -= kGroup;
      if (left_in_block == 0) {
        left_in_block = args.blocksize;
        scales += 4;
      }
    }
  }
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

// A stretch of rows [n0, n0 + columns) of weights; zeros up to the next multiple of kTileRows rows.
template <typename Format>
BNB_INLINE void decode_panel(const GemmArgs &args, const typename Format::FloatLookup::Table &table, Ints index, int64_t n0,
                             int64_t columns, int64_t k0, int64_t k1, float *weights) {
  using Lookup = typename Format::FloatLookup;
  const bool ordered = Format::kPieces && !rows_are_blocks<Lookup>(args);
  const Blocks blocks = blocks_of(args, k0, k1);
  const int64_t ahead = kRowsAhead * args.k;
  for (int64_t n = 0; n < round_up(columns, kTileRows); ++n) {
    float *out = weights + n * kWeightStride;
    if (n >= columns) {
      std::memset(out, 0, kStretch * sizeof(float));
    } else if (ordered) {
      if constexpr (Format::kPieces) Format::decode_pieces(args, n0 + n, k0, k1, out);
      std::memset(out + (k1 - k0), 0, size_t(round_up(k1 - k0, Lookup::kGroup) - (k1 - k0)) * sizeof(float));
    } else {
      decode_blocks<Lookup>(args, table, index, blocks, n0 + n, k0, k1, ahead, out);
    }
  }
}

template <typename Format>
void multiply_panel(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  using Lookup = typename Format::FloatLookup;
  static_assert(kStretch % Lookup::kGroup == 0, "whole loads");
  const Panels panels = cut(args, args.unit_columns, kPanelRows);
  const typename Lookup::Table table = Lookup::table(args.quant_type);
  const Ints index = block_of_lane<Lookup>(args.blocksize);
  float *weights = reinterpret_cast<float *>(args.scratch), *c = weights + kPanelColumns * kWeightStride;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * args.unit_columns, columns = smaller(args.unit_columns, args.n - n0);
    const int64_t m0 = unit / panels.across * kPanelRows, rows = smaller(kPanelRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kStretch) {
      const int64_t k1 = smaller(k0 + kStretch, args.k);
      decode_panel<Format>(args, table, index, n0, columns, k0, k1, weights);
      const int64_t k = length_of_stretch<Lookup>(args, k0), a_stride = k * kVectorBytes;
      for (int64_t m = 0; m < rows; m += kTileVectors * kLanes) {
        const char *a = packed_stretch<Lookup>(args, (m0 + m) / kLanes, k0);
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
    const auto at = [&](int64_t n, int64_t m) { return c + n * kSumStride + m; };
    with_float(args.dtype,
               [&](auto tag) { write_sums<decltype(tag)>(args, at, kSumStride, m0, rows, n0, columns, Waiting::kNothing); });
  }
}

template <typename Lookup>
ProductPlan plan_panel(const GemmArgs &args, int threads) {
  ProductPlan plan{};
  int64_t most = kPanelColumns;
  while (most / 2 >= kLeastPanelColumns && cut(args, most, kPanelRows).count() < 4 * threads) most /= 2;
  // The last panel is about as wide as the others, so that threads are done at the same time.
  plan.unit_columns = round_up(ceil_div(args.n, ceil_div(args.n, most)), kTileRows);
  plan.units = cut(args, plan.unit_columns, kPanelRows).count();
  plan.unit_cost = plan.unit_columns * args.k;
  plan.pack_units = ceil_div(args.m, kLanes);
  plan.pack_unit_cost = args.k * kLanes * 8;
  plan.packed_bytes = round_up(plan.pack_units, kTileVectors) * padded_k<Lookup>(args) * kVectorBytes;
  plan.scratch_bytes = kPanelColumns * (kWeightStride + kSumStride) * int64_t(sizeof(float));
  return plan;
}

inline bool is_any(const GemmArgs &) { return true; }

// This method as a row of a table.
template <typename Format>
constexpr GemmMethod panels(const char *name) {
  using Lookup = typename Format::FloatLookup;
  return {name, is_any, plan_panel<Lookup>, pack_panel<Lookup>, multiply_panel<Format>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_PANEL_H_
