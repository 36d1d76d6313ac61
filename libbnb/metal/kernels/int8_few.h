// SPDX-License-Identifier: MIT
// int8 products of a few rows of A: reading the weights is all there is to it. A simdgroup has some rows of weights, along which its
// lanes read items next to each other, each byte once, and needs neither threadgroup memory nor barriers.
//
// Sums of blocks with scales are added up in fp32 by a lane, with what roundings lost by lanes: so there are no more roundings than
// blocks, and bnb.h's bound is kept.
#ifndef BNB_METAL_KERNELS_INT8_FEW_H_
#define BNB_METAL_KERNELS_INT8_FEW_H_

#include "metal/kernels/int8_weights.h"
#include "metal/kernels/product_shapes.h"

namespace bnb {
namespace kernels {

enum : int { kFewSteps = 64 };  // items of a lane whose sums are exact in fp32: 64 * 16 * 128 * 128 = 2^24

// A number and what is missing in it.
struct Twofold {
  float value, rest;
};
inline int lane_of(int x, ushort mask) { return simd_shuffle_xor(x, mask); }
inline float lane_of(float x, ushort mask) { return simd_shuffle_xor(x, mask); }
inline Twofold lane_of(Twofold x, ushort mask) {
  Twofold made = {simd_shuffle_xor(x.value, mask), simd_shuffle_xor(x.rest, mask)};
  return made;
}
inline int added(int a, int b) { return a + b; }
inline float added(float a, float b) { return a + b; }
inline Twofold added(Twofold a, Twofold b) {
  const float sum = a.value + b.value, of_b = sum - a.value;
  Twofold made = {sum, (a.value - (sum - of_b)) + (b.value - of_b) + (a.rest + b.rest)};
  return made;
}

// Adds x up over the lanes: each of kCount numbers ends in x[0] of the lanes kLanes / kCount * its number and behind.
template <int kCount, typename Number>
inline void sum_over_lanes(thread Number *x, uint lane) {
  uint mask = kLanes / 2;
  BNB_UNROLL
  for (int half = kCount / 2; half > 0; half /= 2) {
    const bool upper = (lane & mask) != 0;
    BNB_UNROLL
    for (int i = 0; i < half; ++i) {
      const Number keep = upper ? x[i + half] : x[i], give = upper ? x[i] : x[i + half];
      x[i] = added(keep, lane_of(give, ushort(mask)));
    }
    mask /= 2;
  }
  for (; mask > 0; mask /= 2) x[0] = added(x[0], lane_of(x[0], ushort(mask)));
}

// What a lane has of kRows * kCols outputs.
template <typename Weights, int kRows, int kCols>
struct FewSums {
  float run[kRows * kCols], activations[kRows];  // since they were last added to the next ones
  int sums[kRows * kCols];
  float values[kRows * kCols], scales[kCols];  // of blocks

  inline void restart() {
    BNB_UNROLL
    for (int i = 0; i < kRows * kCols; ++i) run[i] = 0.0f;
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) activations[r] = 0.0f;
  }
  inline void start() {
    restart();
    BNB_UNROLL
    for (int i = 0; i < kRows * kCols; ++i) sums[i] = 0, values[i] = 0.0f;
    BNB_UNROLL
    for (int c = 0; c < kCols; ++c) scales[c] = 0.0f;
  }
  inline void collect() {
    BNB_UNROLL
    for (int c = 0; c < kCols; ++c) {
      BNB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int i = c * kRows + r;
        const float sum = Weights::times() * run[i] + Weights::plus() * activations[r];
        if (Weights::kBlocks) {
          values[i] = fma(sum, scales[c], values[i]);
        } else {
          sums[i] += int(sum);
        }
      }
    }
    restart();
  }
  inline void add(int row, thread const float *x, thread const float *numbers) {
    if (Weights::plus() != 0.0f) activations[row] += (x[0] + x[1]) + (x[2] + x[3]);
    BNB_UNROLL
    for (int c = 0; c < kCols; ++c) {
      BNB_UNROLL
      for (int j = 0; j < 4; ++j) run[c * kRows + row] = fma(x[j], numbers[4 * c + j], run[c * kRows + row]);
    }
  }
};

// The sums over rows of weights from `column` on; rows that are not there count as the last one.
template <typename Weights, int kRows, int kCols>
inline void multiply_items(constant Int8ProductArgs &args, Int8Buffers from, long column, uint lane,
                           thread FewSums<Weights, kRows, kCols> &t) {
  const long items = Weights::items(args.k);
  long block = -1;
  int steps = 0;
  for (long item = lane; item < items; item += kLanes) {
    if (Weights::kBlocks) {
      const long here = Weights::block_of(args, item);
      if (here != block) {
        t.collect();
        block = here;
        BNB_UNROLL
        for (int c = 0; c < kCols; ++c) t.scales[c] = Weights::block_scale(args, from, smaller(column + c, args.n - 1), block);
      }
    } else if (steps++ == kFewSteps) {
      t.collect();
      steps = 1;
    }
    typename Weights::Item data[kCols];
    BNB_UNROLL
    for (int c = 0; c < kCols; ++c) data[c] = Weights::load(args, from, smaller(column + c, args.n - 1), item);
    uint words[kRows * Weights::kWords];
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) Weights::activations(args, from, smaller(r, args.m - 1), item, words + r * Weights::kWords);
    BNB_UNROLL
    for (int i = 0; i < Weights::kWords; ++i) {
      float numbers[4 * kCols];
      BNB_UNROLL
      for (int c = 0; c < kCols; ++c) Weights::four(data[c], i, numbers + 4 * c);
      BNB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float x[4];
        floats_of_bytes(words[r * Weights::kWords + i], x);
        t.add(r, x, numbers);
      }
    }
  }
  t.collect();
}

// The outlier columns' products, a lane having every 32nd column; all lanes.
template <int kRows, int kCols>
inline void multiply_outliers(constant Int8ProductArgs &args, Int8Buffers from, long column, long count, uint lane, thread float *sums) {
  BNB_UNROLL
  for (int i = 0; i < kRows * kCols; ++i) sums[i] = 0.0f;
  for (long i = lane; i < count; i += kLanes) {
    const long k = outlier_column(args, from, i);
    if (k < 0) continue;
    float w[kCols];
    BNB_UNROLL
    for (int c = 0; c < kCols; ++c) w[c] = outlier_weight(args, from, smaller(column + c, args.n - 1), k);
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float x = outlier_activation(args, from, smaller(r, args.m - 1), k);
      BNB_UNROLL
      for (int c = 0; c < kCols; ++c) sums[c * kRows + r] = fma(x, w[c], sums[c * kRows + r]);
    }
  }
  sum_over_lanes<kRows * kCols>(sums, lane);
}

}  // namespace kernels
}  // namespace bnb

// Up to kRows rows of A.
template <typename Weights, int kRows>
kernel void multiply_few(constant Int8ProductArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                         device const uchar *b [[buffer(2)]], device const uchar *scale [[buffer(3)]],
                         device const uchar *row_stats [[buffer(4)]], device const uchar *bias [[buffer(5)]],
                         device const uchar *x [[buffer(6)]], device const uchar *list [[buffer(7)]],
                         device const uint *count [[buffer(8)]], device uchar *out [[buffer(9)]],
                         uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                         uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  enum : int { kCols = FewShape<kRows>::kRows, kSimdgroups = kFewThreads / kLanes };
  const Int8Buffers from = {a, b, scale, row_stats, bias, x, list, count, out};
  const long outliers = args.out_dtype == kSums ? 0 : outlier_columns(args, from), step = long(groups) * kSimdgroups * kCols;
  for (long column = (long(group) * kSimdgroups + long(simdgroup)) * kCols; column < args.n; column += step) {
    FewSums<Weights, kRows, kCols> t;
    t.start();
    multiply_items<Weights, kRows, kCols>(args, from, column, lane, t);
    float more[kRows * kCols];
    if (outliers > 0) multiply_outliers<kRows, kCols>(args, from, column, outliers, lane, more);

    const int mine = int(lane) / (kLanes / (kRows * kCols));
    const long row = mine % kRows, n = column + mine / kRows;
    float value = 0.0f;
    if (Weights::kBlocks) {
      Twofold all[kRows * kCols];
      BNB_UNROLL
      for (int i = 0; i < kRows * kCols; ++i) all[i].value = t.values[i], all[i].rest = 0.0f;
      sum_over_lanes<kRows * kCols>(all, lane);
      value = all[0].value + all[0].rest;
    } else {
      sum_over_lanes<kRows * kCols>(t.sums, lane);
      value = float(t.sums[0]);
    }
    if (lane % (kLanes / (kRows * kCols)) == 0 && row < args.m && n < args.n) {
      if (args.out_dtype == kSums) {
        store_sum(args, from, row, n, t.sums[0]);
      } else {
        value = scaled_sum_of<Weights>(args, from, value, row, n);
        store_value(args, from, row, n, outliers > 0 ? value + more[0] : value);
      }
    }
  }
}

#endif  // BNB_METAL_KERNELS_INT8_FEW_H_
