// SPDX-License-Identifier: MIT
// The int8 product for any number of rows, by dot products in vectors.
//
// A unit of work is a panel of columns of out (rows of weights) by many rows of activations. A stretch of K of the panel is copied
// into the cache, ready to be multiplied; kDepth weights go to all lanes at once, and lanes run along rows of activations, which
// pack_int8_panel() has turned on their side. Sums rest in scratch between stretches.
#ifndef BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_
#define BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_

#include "cpu/kernels/gemm_int8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kInt8PanelColumns = 240, kInt8PanelRows = 256;  // multiples of kTileRows and of kLanes
constexpr int64_t kInt8Stretch = 128 * Dot::kDepth;               // of K: a multiple of kDotElements
constexpr int64_t kInt8WeightStride = kInt8Stretch / Dot::kDepth + 16;  // lanes; rows do not lie in the same set of the cache
constexpr int64_t kInt8SumStride = kInt8PanelRows + 16;
static_assert(kInt8PanelColumns % kTileRows == 0 && kInt8PanelColumns % kLanes == 0 && kInt8Stretch % kDotElements == 0,
              "whole tiles");

// A packed group: kDepth activations of each of kLanes rows in a vector, vector by vector along K, zeros where there is nothing;
// then what is added to the sums of each row.
BNB_INLINE int64_t int8_group_vectors(const GemmInt8Args &args) { return round_up(args.k, kDotElements) / Dot::kDepth; }
BNB_INLINE int64_t int8_group_bytes(const GemmInt8Args &args) { return (int8_group_vectors(args) + 1) * kVectorBytes; }
BNB_INLINE char *int8_group(const GemmInt8KernelArgs &args, int64_t group) {
  return args.packed + outlier_bytes(args) + group * int8_group_bytes(args);
}

// Vectors of activations of kLanes rows from `group` on, elements [k, k + kDotElements), standing on their side.
BNB_INLINE void load_group(const GemmInt8Args &args, int64_t group, int64_t k, Floats (&x)[kLanes]) {
  const int64_t first = group * kLanes, rows = smaller(kLanes, args.m - first);
  BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
    x[i] = from_bits(i < rows ? load_dot(args.a + (first + i) * args.a_stride + k, args.k - k) : splat_int(0));
  }
  transpose(x);
}

void pack_int8_panel(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    if (args.outliers) pack_outliers(args, group);
    char *to = int8_group(args, group);
    Ints sums = splat_int(0);
    for (int64_t k = 0; k < args.k; k += kDotElements) {
      Floats x[kLanes];
      load_group(args, group, k, x);
      BNB_UNROLL for (int i = 0; i < kLanes; ++i, to += kVectorBytes) {
        store<F32>(to, x[i]);
        if (Dot::kOffset) sums = Dot::add(sums, Dot::ones(), bits(x[i]));
      }
    }
    int32_t lanes[kLanes];
    store_int32(lanes, sums);
    for (int32_t &lane : lanes) lane = -Dot::kOffset * lane;
    std::memcpy(to, lanes, sizeof lanes);
  }
}

// A stretch of rows [n0, n0 + columns) of weights, ready to be multiplied, zeros up to the next multiples.
BNB_INLINE void copy_int8_weights(const GemmInt8KernelArgs &args, int64_t n0, int64_t columns, int64_t k0, int64_t k1, int32_t *to) {
  for (int64_t n = 0; n < round_up(columns, kTileRows); ++n, to += kInt8WeightStride) {
    const int8_t *w = args.b + (n0 + smaller(n, columns - 1)) * args.b_stride;
    const int64_t ahead = k1 < args.k ? kInt8Stretch : 0;
    for (int64_t k = k0; k < k1; k += kDotElements) {
      prefetch(w + k + ahead);
      store_int32(to + (k - k0) / Dot::kDepth, Dot::weights(load_dot(w + k, k1 - k)));
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

void multiply_int8_panel(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  const Panels panels = cut(args, kInt8PanelColumns, kInt8PanelRows);
  const int64_t a_stride = int8_group_bytes(args), corrections = int8_group_vectors(args) * kVectorBytes;
  int32_t *weights = reinterpret_cast<int32_t *>(args.scratch), *c = weights + kInt8PanelColumns * kInt8WeightStride;
  float *outliers = reinterpret_cast<float *>(c + kInt8PanelColumns * kInt8SumStride);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit % panels.across * kInt8PanelColumns, columns = smaller(kInt8PanelColumns, args.n - n0);
    const int64_t m0 = unit / panels.across * kInt8PanelRows, rows = smaller(kInt8PanelRows, args.m - m0);
    for (int64_t k0 = 0; k0 == 0 || k0 < args.k; k0 += kInt8Stretch) {
      const int64_t k1 = smaller(k0 + kInt8Stretch, args.k), vectors = round_up(k1 - k0, kDotElements) / Dot::kDepth;
      copy_int8_weights(args, n0, columns, k0, k1, weights);
      for (int64_t m = 0; m < rows; m += kTileVectors * kLanes) {
        const char *group = int8_group(args, (m0 + m) / kLanes), *a = group + k0 / Dot::kDepth * kVectorBytes;
        for (int64_t n = 0; n < columns; n += kTileRows) {
          const int32_t *w = weights + n * kInt8WeightStride;
          int32_t *sums = c + n * kInt8SumStride + m;
          if (rows - m > kLanes) {
            multiply_int8_tile<kTileVectors>(w, a, a_stride, vectors, sums, k0 == 0, group + corrections);
          } else {
            multiply_int8_tile<1>(w, a, a_stride, vectors, sums, k0 == 0, group + corrections);
          }
        }
      }
    }
    write_sums_of(args, m0, rows, n0, columns, outliers, [&](int64_t m, int64_t n, Floats (&x)[kLanes]) {
      BNB_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = from_bits(load_int32(c + (n + i) * kInt8SumStride + m));
    });
  }
}

ProductPlan plan_int8_panel(const GemmInt8Args &args, int) {
  ProductPlan plan{};
  plan.units = cut(args, kInt8PanelColumns, kInt8PanelRows).count();
  plan.unit_cost = kInt8PanelColumns * args.k;
  plan.pack_units = ceil_div(args.m, kLanes);
  plan.pack_unit_cost = kLanes * (args.k * 4 + 64 * args.outliers);
  plan.packed_bytes = outlier_bytes(args) + plan.pack_units * int8_group_bytes(args);
  plan.scratch_bytes = kInt8PanelColumns * (kInt8WeightStride + kInt8SumStride) * 4 + outlier_buffer_bytes(args);
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_PANEL_H_
