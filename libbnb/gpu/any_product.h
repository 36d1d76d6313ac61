// SPDX-License-Identifier: MIT
// int8 products of any shape, at any address: tiles of 64 by 64 outputs, to which blocks of threads bring stretches of 128 numbers
// of the rows, byte by byte. Four by four outputs to a thread.
#ifndef BNB_GPU_ANY_PRODUCT_H_
#define BNB_GPU_ANY_PRODUCT_H_

#include "gpu/int8_weights.h"

namespace bnb::gpu {

constexpr int kAnyThreads = 256, kAnyTile = 64;

// Rows of bytes, a word apart, so that words of neighbouring rows lie in different banks.
struct AnyStretch {
  static constexpr int kLength = 128, kWords = kLength / 4;
  uint32_t a[kAnyTile][kWords + 1], b[kAnyTile][kWords + 1];
};

// Rows from `row` and weights from `column` on, elements k to k + length - 1 of each, zeros behind.
template <typename Weights>
BNB_DEVICE void load_stretch(const Int8Product &p, int64_t row, int64_t column, int64_t k, int length, AnyStretch &stretch) {
  constexpr int kWords = AnyStretch::kWords, kApart = kAnyThreads / kWords;
  const int w = int(thread_index()) % kWords, left = length - 4 * w;
  if (left <= 0) return;
  for (int at = int(thread_index()) / kWords; at < kAnyTile; at += kApart) {
    uint32_t a = 0, b = 0;
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < left && row + at < p.m) a |= uint32_t(uint8_t(p.a[(row + at) * p.a_stride + k + 4 * w + i])) << 8 * i;
      if (i < left && column + at < p.n) b |= uint32_t(uint8_t(Weights::weight(p, column + at, k + 4 * w + i))) << 8 * i;
    }
    stretch.a[at][w] = a;
    stretch.b[at][w] = b;
  }
}

// A thread's outputs: rows and columns 16 apart.
struct AnySums {
  static constexpr int kSide = 4, kApart = kAnyTile / kSide;
  int sums[kSide][kSide] = {};
  float values[kSide][kSide] = {};

  static BNB_DEVICE_METHOD int row(int i) { return int(thread_index()) / kApart + i * kApart; }
  static BNB_DEVICE_METHOD int column(int j) { return int(thread_index()) % kApart + j * kApart; }

  template <typename Weights>
  BNB_DEVICE_METHOD void end_block(const Int8Product &p, int64_t first_column, int64_t block) {
    BNB_UNROLL
    for (int j = 0; j < kSide; ++j) {
      const int64_t n = first_column + column(j);
      const float scale = n < p.n ? Weights::block_scale(p, n, block) : 0.0f;
      BNB_UNROLL
      for (int i = 0; i < kSide; ++i) {
        values[i][j] = fmaf(float(sums[i][j]), scale, values[i][j]);
        sums[i][j] = 0;
      }
    }
  }
  // Of word w of the stretch the bytes that the mask has.
  BNB_DEVICE_METHOD void add(const AnyStretch &stretch, int w, uint32_t mask) {
    uint32_t a[kSide], b[kSide];
    BNB_UNROLL
    for (int i = 0; i < kSide; ++i) a[i] = stretch.a[row(i)][w] & mask, b[i] = stretch.b[column(i)][w];
    BNB_UNROLL
    for (int i = 0; i < kSide; ++i) {
      BNB_UNROLL
      for (int j = 0; j < kSide; ++j) sums[i][j] = dot4(int(a[i]), int(b[j]), sums[i][j]);
    }
  }
  // The same for a word in which blocks end.
  template <typename Weights>
  BNB_DEVICE_METHOD void end_blocks(const Int8Product &p, int64_t first_column, const AnyStretch &stretch, int w, int64_t *left,
                                    int64_t *block) {
    for (int done = 0; done < 4 && *block < p.blocks;) {
      const int bytes = int(*left < 4 - done ? *left : 4 - done);
      add(stretch, w, (bytes < 4 ? (1u << 8 * bytes) - 1 : 0xFFFFFFFFu) << 8 * done);
      done += bytes;
      *left -= bytes;
      if (*left > 0) continue;
      end_block<Weights>(p, first_column, (*block)++);
      *left = p.block.value;
    }
  }
};

template <typename Weights>
BNB_KERNEL void BNB_THREADS(kAnyThreads) multiply_any(Int8Product p) {
  BNB_SHARED AnyStretch stretch;
  BNB_SHARED Outliers<kAnyTile, kAnyTile> outliers;
  constexpr int kSide = AnySums::kSide, kLength = AnyStretch::kLength;
  const int64_t columns = ceil_div(p.n, kAnyTile), tiles = columns * ceil_div(p.m, kAnyTile);
  for (int64_t tile = grid_index(); tile < tiles; tile += grid_count()) {
    const int64_t row = tile / columns * kAnyTile, column = tile % columns * kAnyTile;
    AnySums t;
    [[maybe_unused]] int64_t left = p.block.value, block = 0;  // numbers of the running block, and which it is
    for (int64_t k = 0; k < p.k; k += kLength) {
      const int length = int(p.k - k < kLength ? p.k - k : kLength);
      barrier();  // the one before is used up
      load_stretch<Weights>(p, row, column, k, length, stretch);
      barrier();
      if (row + t.row(0) >= p.m || column + t.column(0) >= p.n) continue;
      for (int w = 0; w * 4 < length; ++w) {
        if constexpr (Weights::kBlocks) {
          if (left <= 4) {
            t.end_blocks<Weights>(p, column, stretch, w, &left, &block);
            continue;
          }
          left -= 4;
        }
        t.add(stretch, w, 0xFFFFFFFFu);
      }
    }

    BNB_UNROLL
    for (int i = 0; i < kSide; ++i) {
      BNB_UNROLL
      for (int j = 0; j < kSide; ++j) {
        const int64_t m = row + t.row(i), n = column + t.column(j);
        if (m >= p.m || n >= p.n) continue;
        if (p.dtype == DType::kI32) {
          store_sum(p, m, n, t.sums[i][j]);
        } else {
          t.values[i][j] = Weights::scaled(p, Weights::kBlocks ? t.values[i][j] : float(t.sums[i][j]), m, n);
        }
      }
    }
    if (p.dtype == DType::kI32) continue;
    const int64_t count = p.outlier_columns();
    for (int64_t first = 0; first < count; first += outliers.kChunk) {
      barrier();
      const int here = outliers.load_chunk(p, first, count, row, column);
      barrier();
      for (int o = 0; o < here; ++o) {
        BNB_UNROLL
        for (int i = 0; i < kSide; ++i) {
          BNB_UNROLL
          for (int j = 0; j < kSide; ++j) {
            t.values[i][j] = fmaf(outliers.x[o][t.row(i)], outliers.w[o][t.column(j)], t.values[i][j]);
          }
        }
      }
    }
    BNB_UNROLL
    for (int i = 0; i < kSide; ++i) {
      BNB_UNROLL
      for (int j = 0; j < kSide; ++j) {
        const int64_t m = row + t.row(i), n = column + t.column(j);
        if (m < p.m && n < p.n) store_value(p, m, n, t.values[i][j]);
      }
    }
  }
}

template <typename Weights>
bnb_status launch_any(const Int8Product &p, const Queue &queue) {
  const int64_t tiles = ceil_div(p.m, kAnyTile) * ceil_div(p.n, kAnyTile);
  return launch(multiply_any<Weights>, {blocks_for(queue, tiles, 8), kAnyThreads}, queue, p);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_ANY_PRODUCT_H_
