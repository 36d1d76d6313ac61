// SPDX-License-Identifier: MIT
// Products of int8 activations for any number of rows, by dot products in vectors.
//
// A unit of work is a panel of columns of out (rows of weights) by many rows of activations. A stretch of K of the panel is copied
// into the cache, ready to be multiplied; kDepth weights go to all lanes at once, and lanes run along rows of activations, which
// pack_int8_panel() has turned on their side. Sums rest in scratch between stretches; those of blocks with scales of their own are
// added up in fp32, beside them.
#ifndef BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_
#define BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_

#include "cpu/kernels/gemm_int8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kInt8PanelColumns = 240, kInt8PanelRows = 256;  // multiples of kTileRows and of kLanes
constexpr int64_t kInt8WeightStride = kInt8Stretch / Dot::kDepth + 16;  // lanes; rows do not lie in the same set of the cache
constexpr int64_t kInt8SumStride = kInt8PanelRows + 16;
static_assert(kInt8PanelColumns % kTileRows == 0 && kInt8PanelColumns % kLanes == 0 && kInt8Stretch % kDotElements == 0,
              "whole tiles");

// A packed group: kDepth activations of each of kLanes rows in a vector, vector by vector along K, zeros where there is nothing;
// then, for each block of K, what is added to the sums of each row.
template <typename Args>
BNB_INLINE int64_t int8_group_vectors(const Args &args) {
  return round_up(args.k, kDotElements) / Dot::kDepth;
}
template <typename Weights>
BNB_INLINE int64_t int8_group_bytes(const typename Weights::Args &args) {
  return (int8_group_vectors(args) + ceil_div(args.k, Weights::block(args)) + 1) * kVectorBytes;
}
template <typename Weights>
BNB_INLINE char *int8_group(const ProductArgs<typename Weights::Args> &args, int64_t group) {
  return args.packed + Weights::front_bytes(args) + group * int8_group_bytes<Weights>(args);
}

// Vectors of activations of kLanes rows from `group` on, elements [k, k + kDotElements), standing on their side.
template <typename Args>
BNB_INLINE void load_group(const Args &args, int64_t group, int64_t k, Floats (&x)[kLanes]) {
  const int64_t first = group * kLanes, rows = smaller(kLanes, args.m - first);
  BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
    x[i] = from_bits(i < rows ? load_dot(args.a + (first + i) * args.a_stride + k, args.k - k) : splat_int(0));
  }
  transpose(x);
}

BNB_INLINE void store_corrections(Ints sums, char *to) {
  int32_t lanes[kLanes];
  store_int32(lanes, sums);
  for (int32_t &lane : lanes) lane = -Dot::kOffset * lane;
  std::memcpy(to, lanes, sizeof lanes);
}

template <typename Weights>
void pack_int8_panel(const ProductArgs<typename Weights::Args> &args, int64_t begin, int64_t end) {
  const int64_t block_vectors = ceil_div(Weights::block(args), Dot::kDepth);
  for (int64_t group = begin; group < end; ++group) {
    Weights::pack_front(args, group);
    char *to = int8_group<Weights>(args, group), *corrections = to + int8_group_vectors(args) * kVectorBytes;
    Ints sums = splat_int(0);
    int64_t left_in_block = block_vectors;
    for (int64_t k = 0; k < args.k; k += kDotElements) {
      Floats x[kLanes];
      load_group(args, group, k, x);
      BNB_UNROLL for (int i = 0; i < kLanes; ++i, to += kVectorBytes) {
        store<F32>(to, x[i]);
        if (Dot::kOffset) sums = Dot::add(sums, Dot::ones(), bits(x[i]));
        if (Weights::kScalesBlocks && --left_in_block == 0) {
          store_corrections(sums, corrections);
          corrections += kVectorBytes;
          sums = splat_int(0);
          left_in_block = block_vectors;
        }
      }
    }
    store_corrections(sums, corrections);
  }
}

// A stretch of rows [n0, n0 + columns) of weights, ready to be multiplied, any numbers up to the next multiple of kTileRows.
template <typename Weights>
BNB_INLINE void copy_int8_weights(const ProductArgs<typename Weights::Args> &args, int64_t n0, int64_t columns, int64_t k0,
                                  int64_t k1, int32_t *to) {
  int8_t buffer[kInt8Stretch];
  for (int64_t n = 0; n < round_up(columns, kTileRows); ++n, to += kInt8WeightStride) {
    const int64_t row = n0 + smaller(n, columns - 1);
    const int8_t *w = Weights::row(args, row, k0, k1, buffer);
    if (k1 < args.k) ask_for_row<Weights>(args, row, k1, smaller(k1 + kInt8Stretch, args.k));
    for (int64_t k = 0; k < k1 - k0; k += kDotElements) {
      store_int32(to + k / Dot::kDepth, Dot::weights(load_dot(w + k, k1 - k0 - k)));
    }
  }
}

// c[n * kInt8SumStride + m] += the products over `vectors` vectors of activations, for kTileRows n and kVectors vectors of m.
template <int kVectors>
BNB_INLINE void multiply_int8_tile(const int32_t *w, const char *a, int64_t a_stride, int64_t vectors, int32_t *c, bool first,
                                   const char *corrections) {
  Ints sums[kTileRows][kVectors];
  BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
    const Ints start = load_int32(corrections + v * a_stride);
    BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
      sums[n][v] = first ? start : load_int32(c + n * kInt8SumStride + v * kLanes);
    }
  }
  for (int64_t i = 0; i < vectors; ++i, ++w, a += kVectorBytes) {
    Ints x[kVectors];
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) x[v] = load_int32(a + v * a_stride);
    BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
      const Ints weights = splat_int(w[n * kInt8WeightStride]);
      BNB_UNROLL for (int v = 0; v < kVectors; ++v) sums[n][v] = Dot::add(sums[n][v], weights, x[v]);
    }
  }
  BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) store_int32(c + n * kInt8SumStride + v * kLanes, sums[n][v]);
  }
}

// The sums of a block, as they lie in c, times the scales of the rows of weights: to = or, if not first, +=. scales: kTileRows of
// them, a stride apart.
template <int kVectors>
BNB_INLINE void add_scaled_tile(const int32_t *c, const float *scales, int64_t stride, float *to, bool first) {
  BNB_UNROLL for (int n = 0; n < kTileRows; ++n) {
    const Floats scale = splat(scales[n * stride]);
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
      float *at = to + n * kInt8SumStride + v * kLanes;
      const Floats product = to_float(load_int32(c + n * kInt8SumStride + v * kLanes));
      store<F32>(at, first ? mul(product, scale) : fma(product, scale, load<F32>(at)));
    }
  }
}

// What a panel has in scratch.
template <typename Weights>
struct Int8Scratch {
  static constexpr int64_t kWeights = kInt8PanelColumns * kInt8WeightStride, kSums = kInt8PanelColumns * kInt8SumStride;
  int32_t *weights, *c;
  float *totals, *scales, *buffer;  // of blocks: their sums, and the scales of a stretch
  int64_t scale_stride;

  BNB_INLINE Int8Scratch(const typename Weights::Args &args, char *scratch) {
    scale_stride = stretch_blocks(Weights::block(args), kInt8Stretch);
    weights = reinterpret_cast<int32_t *>(scratch);
    c = weights + kWeights;
    totals = reinterpret_cast<float *>(c + kSums);
    scales = totals + (Weights::kScalesBlocks ? kSums : 0);
    buffer = scales + (Weights::kScalesBlocks ? kInt8PanelColumns * scale_stride : 0);
  }
  static BNB_INLINE int64_t bytes(const typename Weights::Args &args) {
    const int64_t of_blocks = kSums + kInt8PanelColumns * stretch_blocks(Weights::block(args), kInt8Stretch);
    return (kWeights + kSums + (Weights::kScalesBlocks ? of_blocks : 0)) * 4 + Weights::buffer_bytes(args);
  }
};

// Tiles of weights from n on and of activations from m on, over a stretch [k0, k1) of K, block by block.
template <typename Weights, int kVectors>
BNB_INLINE void multiply_int8_blocks(const typename Weights::Args &args, const Int8Scratch<Weights> &scratch, const char *group,
                                     int64_t m, int64_t n, int64_t k0, int64_t k1) {
  const int64_t a_stride = int8_group_bytes<Weights>(args), block_size = Weights::block(args);
  const char *corrections = group + int8_group_vectors(args) * kVectorBytes;
  const int32_t *weights = scratch.weights + n * kInt8WeightStride;
  int32_t *sums = scratch.c + n * kInt8SumStride + m;
  for_each_block(block_size, k0, k1, [&](int64_t block, int64_t k, int64_t stop) {
    const bool first = k == block * block_size;
    multiply_int8_tile<kVectors>(weights + (k - k0) / Dot::kDepth, group + k / Dot::kDepth * kVectorBytes, a_stride,
                                 ceil_div(stop - k, Dot::kDepth), sums, first, corrections + block * kVectorBytes);
    if (!Weights::kScalesBlocks || stop != (block + 1) * block_size) return;
    const float *scales = scratch.scales + n * scratch.scale_stride + block - k0 / block_size;
    add_scaled_tile<kVectors>(sums, scales, scratch.scale_stride, scratch.totals + n * kInt8SumStride + m, block == 0);
  });
}

template <typename Weights>
void multiply_int8_panel(const ProductArgs<typename Weights::Args> &args, int64_t begin, int64_t end) {
  const Panels panels = cut(args, kInt8PanelColumns, kInt8PanelRows);
  const Int8Scratch<Weights> scratch(args, args.scratch);
  const int64_t block = Weights::block(args);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * kInt8PanelColumns, columns = smaller(kInt8PanelColumns, args.n - n0);
    const int64_t m0 = unit / panels.across * kInt8PanelRows, rows = smaller(kInt8PanelRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kInt8Stretch) {
      const int64_t k1 = smaller(k0 + kInt8Stretch, args.k);
      copy_int8_weights<Weights>(args, n0, columns, k0, k1, scratch.weights);
      if (Weights::kScalesBlocks) copy_scales<Weights>(args, n0, columns, block, k0, k1, scratch.scales, scratch.scale_stride);
      for (int64_t m = 0; m < rows; m += kTileVectors * kLanes) {
        const char *group = int8_group<Weights>(args, (m0 + m) / kLanes);
        for (int64_t n = 0; n < columns; n += kTileRows) {
          if (rows - m > kLanes) {
            multiply_int8_blocks<Weights, kTileVectors>(args, scratch, group, m, n, k0, k1);
          } else {
            multiply_int8_blocks<Weights, 1>(args, scratch, group, m, n, k0, k1);
          }
        }
      }
    }
    write_sums_of<Weights>(args, m0, rows, n0, columns, scratch.buffer, [&](int64_t m, int64_t n, Floats (&x)[kLanes]) {
      const int64_t at = n * kInt8SumStride + m;
      BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
        x[i] = Weights::kScalesBlocks ? load<F32>(scratch.totals + at + i * kInt8SumStride)
                                      : from_bits(load_int32(scratch.c + at + i * kInt8SumStride));
      }
    });
  }
}

template <typename Weights>
ProductPlan plan_int8_panel(const typename Weights::Args &args, int) {
  ProductPlan plan{};
  plan.units = cut(args, kInt8PanelColumns, kInt8PanelRows).count();
  plan.unit_cost = kInt8PanelColumns * args.k;
  plan.pack_units = ceil_div(args.m, kLanes);
  plan.pack_unit_cost = kLanes * args.k * 4 + Weights::front_bytes(args) / plan.pack_units;
  plan.packed_bytes = Weights::front_bytes(args) + plan.pack_units * int8_group_bytes<Weights>(args);
  plan.scratch_bytes = Int8Scratch<Weights>::bytes(args);
  return plan;
}

// This method as a row of a table.
template <typename Weights>
constexpr ProductMethod<typename Weights::Args> int8_panels(const char *name, bool (*fits)(const typename Weights::Args &)) {
  return {name, fits, plan_int8_panel<Weights>, pack_int8_panel<Weights>, multiply_int8_panel<Weights>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_
