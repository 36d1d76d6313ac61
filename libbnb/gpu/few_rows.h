// SPDX-License-Identifier: MIT
// int8 products of a few rows of A: reading the weights is all there is to it. A block has four rows of weights, along which its
// threads read items next to each other; dot products of four numbers at a time. With N = K = 4096 that is 1024 blocks, of which a
// multiprocessor of an H200 holds eight at once, with 16 KB each on their way.
//
// Sums of blocks with scales are added up in fp32 by a thread, in float64 by threads: at most as many roundings as blocks, because the
// parts that a thread adds up are no more than the row has blocks (kMostBlock).
#ifndef BNB_GPU_FEW_ROWS_H_
#define BNB_GPU_FEW_ROWS_H_

#include "gpu/int8_weights.h"

namespace bnb::gpu {

constexpr int kFewRowsThreads = 128, kFewRowsCols = 4, kMostFewRows = 8;
constexpr int64_t kMostBlock = 16 * kFewRowsThreads;

// Adds x up over the lanes of a warp: each of kCount numbers ends in x[0] of the lanes kWarp / kCount * its number and behind.
template <int kCount, typename T>
BNB_DEVICE void sum_over_lanes(T *x) {
  int mask = kWarp / 2;
  BNB_UNROLL
  for (int half = kCount / 2; half > 0; half /= 2, mask /= 2) {
    const bool upper = (int(lane_index()) & mask) != 0;
    BNB_UNROLL
    for (int i = 0; i < half; ++i) {
      const T keep = upper ? x[i + half] : x[i], give = upper ? x[i] : x[i + half];
      x[i] = keep + shuffle_xor(give, mask);
    }
  }
  for (; mask > 0; mask /= 2) x[0] += shuffle_xor(x[0], mask);
}

template <typename Weights, int kRows>
BNB_KERNEL void BNB_THREADS(kFewRowsThreads) multiply_few_rows(Int8Product p) {
  constexpr int kCols = kFewRowsCols, kSums = kCols * kRows, kAhead = 2, kWords = Weights::kWords;
  using Part = std::conditional_t<Weights::kBlocks, float, int>;   // of a thread
  using Sum = std::conditional_t<Weights::kBlocks, double, int>;
  BNB_SHARED Sum sums[kSums][kFewRowsThreads / 32];
  BNB_SHARED Outliers<kRows, kCols> outliers;
  const int64_t column = int64_t(grid_index()) * kCols, items = Weights::items(p.k);

  Part parts[kSums] = {};
  for (int64_t first = thread_index(); first < items; first += kAhead * kFewRowsThreads) {
    typename Weights::Item data[kAhead][kCols];
    BNB_UNROLL
    for (int s = 0; s < kAhead; ++s) {
      const int64_t item = first + s * kFewRowsThreads;
      BNB_UNROLL
      for (int c = 0; c < kCols; ++c) {
        if (item < items) data[s][c] = Weights::load_item(p, column + c < p.n ? column + c : p.n - 1, item);
      }
    }
    BNB_UNROLL
    for (int s = 0; s < kAhead; ++s) {
      const int64_t item = first + s * kFewRowsThreads;
      if (item >= items) break;
      uint32_t weights[kCols][kWords];
      float scales[kCols];
      BNB_UNROLL
      for (int c = 0; c < kCols; ++c) {
        if (Weights::kBlocks) {
          scales[c] = Weights::block_scale(p, column + c < p.n ? column + c : p.n - 1, Weights::block_of(p, item));
        }
        BNB_UNROLL
        for (int i = 0; i < kWords; ++i) weights[c][i] = Weights::word(data[s][c], item, i);
      }
      BNB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        uint32_t x[kWords];
        Weights::activations(p.a + (r < p.m ? r : p.m - 1) * p.a_stride, item, p.k, x);
        BNB_UNROLL
        for (int c = 0; c < kCols; ++c) {
          int sum = Weights::kBlocks ? 0 : int(parts[c * kRows + r]);
          BNB_UNROLL
          for (int i = 0; i < kWords; ++i) sum = dot4(int(x[i]), int(weights[c][i]), sum);
          parts[c * kRows + r] = Weights::kBlocks ? Part(fmaf(float(sum), scales[c], float(parts[c * kRows + r]))) : Part(sum);
        }
      }
    }
  }

  Sum all[kSums];
  BNB_UNROLL
  for (int i = 0; i < kSums; ++i) all[i] = Sum(parts[i]);
  sum_over_lanes<kSums>(all);
  constexpr int kLanes = kWarp / kSums;
  if (lane_index() % kLanes == 0) sums[lane_index() / kLanes][warp_index()] = all[0];
  barrier();

  const int at = int(thread_index()), r = at % kRows;
  const int64_t n = column + at / kRows;
  const bool mine = at < kSums && r < p.m && n < p.n;
  float value = 0.0f;
  if (mine) {
    Sum sum = 0;
    for (int w = 0; w < kFewRowsThreads / kWarp; ++w) sum += sums[at][w];
    if (p.dtype == DType::kI32) {
      store_sum(p, r, n, int(sum));
    } else if (Weights::kBlocks && p.blocks != 1) {
      value = float(double(sum) * double(p.row_stat(r) * (1.0f / 127.0f)));
    } else {
      value = Weights::scaled(p, float(sum), r, n);
    }
  }
  if (p.dtype == DType::kI32) return;
  const int64_t count = p.outlier_columns();
  for (int64_t first = 0; first < count; first += outliers.kChunk) {
    barrier();  // the one before is used up
    const int here = outliers.load_chunk(p, first, count, 0, column);
    barrier();
    for (int j = 0; mine && j < here; ++j) value = fmaf(outliers.x[j][r], outliers.w[j][at / kRows], value);
  }
  if (mine) store_value(p, r, n, value);
}

template <typename Weights>
bnb_status launch_few_rows(const Int8Product &p, const Queue &queue) {
  const Grid grid{ceil_div(p.n, kFewRowsCols), kFewRowsThreads};
  if (p.m == 1) return launch(multiply_few_rows<Weights, 1>, grid, queue, p);
  if (p.m == 2) return launch(multiply_few_rows<Weights, 2>, grid, queue, p);
  if (p.m <= 4) return launch(multiply_few_rows<Weights, 4>, grid, queue, p);
  return launch(multiply_few_rows<Weights, 8>, grid, queue, p);
}

inline bool fits_grid(const Int8Product &p) { return ceil_div(p.n, kFewRowsCols) <= kMaxBlocks; }

}  // namespace bnb::gpu

#endif  // BNB_GPU_FEW_ROWS_H_
