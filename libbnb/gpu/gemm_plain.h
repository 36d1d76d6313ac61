// SPDX-License-Identifier: MIT
// Products of every shape, blocks that end inside of a load and rows that start inside of a byte included: tiles of dequantized
// weights and of activations in shared memory, multiplied by fma in the order of columns. SUM, w_error 0.
#ifndef BNB_GPU_GEMM_PLAIN_H_
#define BNB_GPU_GEMM_PLAIN_H_

#include "gpu/gemm.h"
#include "gpu/weights.h"

namespace bnb::gpu {

constexpr int kPlainThreads = 256, kPlainEight = 8;

// Where a thread is in the blocks of scales, moved on without dividing.
class BlockPosition {
 public:
  BNB_DEVICE_METHOD BlockPosition(const Gemm &args, int64_t i) : blocksize_(args.blocksize) {
    block_ = args.flat_blocks.of(i);
    within_ = i - block_ * blocksize_;
  }
  BNB_DEVICE_METHOD void advance(int64_t codes) {
    within_ += codes;
    while (within_ >= blocksize_) {
      within_ -= blocksize_;
      ++block_;
    }
  }
  BNB_DEVICE_METHOD int64_t block() const { return block_; }
  BNB_DEVICE_METHOD bool at_start() const { return within_ == 0; }

 private:
  int64_t blocksize_, block_, within_;
};

// A tile of kTileN rows of weights by kTileM rows of activations; a thread has kTileN / 16 times kTileM / 16 of its sums.
template <typename Tag, typename Codec, int kTileN, int kTileM>
BNB_KERNEL void BNB_THREADS(kPlainThreads) multiply_plain(Gemm args, int64_t tiles_n, int64_t tiles) {
  constexpr int kStep = kPlainThreads * kPlainEight / kTileN;  // columns: eight weights for each thread
  constexpr int kOwnN = kTileN / 16, kOwnM = kTileM / 16, kLoadsA = kTileM * kStep / kPlainThreads;
  BNB_SHARED typename Codec::Table table;
  BNB_SHARED float weights[kStep][kTileN + 4], activations[kStep][kTileM + 4];
  Codec::fill(table, args.quant_type);
  barrier();
  const ScaleReader scales(args.reader);
  const int thread = int(thread_index()), own_n = thread % 16, own_m = thread / 16;
  const int row_in_tile = thread % kTileN, first = thread / kTileN * kPlainEight;  // what it decodes
  for (int64_t tile = grid_index(); tile < tiles; tile += grid_count()) {
    const int64_t n0 = tile % tiles_n * kTileN, m0 = tile / tiles_n * kTileM;
    const int64_t row = n0 + row_in_tile < args.n ? n0 + row_in_tile : args.n - 1;
    BlockPosition position(args, row * args.k + (first < args.k ? first : 0));
    float sum[kOwnM][kOwnN] = {};
    for (int64_t k0 = 0; k0 < args.k; k0 += kStep) {
      float w[kPlainEight] = {};
      const int64_t k = k0 + first;
      if (k < args.k) {
        Codec::decode(table, Codec::load_codes(args.b, row * args.k + k, args.n * args.k), w);
        float scale = scales.at(position.block());
        BNB_UNROLL
        for (int j = 0; j < kPlainEight; ++j) {
          w[j] = k + j < args.k ? w[j] * scale : 0.0f;
          position.advance(1);
          if (position.at_start() && k + j + 1 < args.k) scale = scales.at(position.block());
        }
        if (k + kStep < args.k) position.advance(kStep - kPlainEight);
      }
      BNB_UNROLL
      for (int j = 0; j < kPlainEight; ++j) weights[first + j][row_in_tile] = w[j];
      BNB_UNROLL
      for (int i = 0; i < kLoadsA; ++i) {
        const int at = i * kPlainThreads + thread, column = at % kStep, m = at / kStep;
        const bool there = k0 + column < args.k && m0 + m < args.m;
        activations[column][m] = there ? load_float<Tag>(args.a, (m0 + m) * args.a_stride + k0 + column) : 0.0f;
      }
      barrier();
      const int columns = args.k - k0 < kStep ? int(args.k - k0) : kStep;
      for (int column = 0; column < columns; ++column) {
        float x[kOwnM], y[kOwnN];
        BNB_UNROLL
        for (int i = 0; i < kOwnM; ++i) x[i] = activations[column][own_m * kOwnM + i];
        BNB_UNROLL
        for (int j = 0; j < kOwnN; ++j) y[j] = weights[column][j / 4 * 64 + own_n * 4 + j % 4];
        BNB_UNROLL
        for (int i = 0; i < kOwnM; ++i) {
          BNB_UNROLL
          for (int j = 0; j < kOwnN; ++j) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
        }
      }
      barrier();
    }
    BNB_UNROLL
    for (int i = 0; i < kOwnM; ++i) {
      BNB_UNROLL
      for (int j = 0; j < kOwnN; ++j) {
        const int64_t n = n0 + j / 4 * 64 + own_n * 4 + j % 4, m = m0 + own_m * kOwnM + i;
        if (n < args.n && m < args.m) store_float<Tag>(args.out, m * args.out_stride + n, sum[i][j] + bias_of(args, n));
      }
    }
  }
}

inline bool any_shape(const GemmArgs &, const Queue &) { return true; }

template <typename Tag, typename Codec, int kTileN, int kTileM>
bnb_status launch_plain(const GemmArgs &args, const Queue &queue) {
  const int64_t tiles_n = ceil_div(args.n, kTileN), tiles = tiles_n * ceil_div(args.m, kTileM);
  const Grid grid{tiles < kMaxBlocks ? tiles : kMaxBlocks, kPlainThreads};
  return launch(multiply_plain<Tag, Codec, kTileN, kTileM>, grid, queue, Gemm(args), tiles_n, tiles);
}

template <typename Codec>
bnb_status multiply_any_shape(const GemmArgs &args, const Queue &queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    status = args.m <= 16 ? launch_plain<Tag, Codec, 64, 16>(args, queue) : launch_plain<Tag, Codec, 128, 64>(args, queue);
  });
  return status;
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_PLAIN_H_
