// SPDX-License-Identifier: MIT
// int8 products by matrix instructions: tiles of outputs, for which stretches of 128 columns of both sides go through kStages places in
// shared memory. int8 gets there by asynchronous copies; other weights are loaded into registers a stage ahead, and become int8
// behind the instructions of the stage that runs meanwhile.
//
// A warp of the large tile of 128 by 128 has 64 by 64 outputs: for 64 columns it loads 8 KB from shared memory and multiplies 2^18
// numbers, so that the instructions of an H200, and not its shared memory, are what limits it. With scales of blocks there are a
// second set of sums and only registers for 64 by 32. Small tiles leave 60 KB of stages to three blocks of a multiprocessor: their
// matter is that weights are always on their way.
#ifndef BNB_GPU_MATRIX_PRODUCT_H_
#define BNB_GPU_MATRIX_PRODUCT_H_

#include "gpu/int8_unit.h"

namespace bnb::gpu {

// kM, kN: outputs of a tile; kWarpM, kWarpN: of a warp.
template <int kM_, int kN_, int kWarpM_, int kWarpN_, int kStages_>
struct Int8Tile {
  static constexpr int kM = kM_, kN = kN_, kWarpM = kWarpM_, kWarpN = kWarpN_, kStages = kStages_;
  static constexpr int kWarps = kM / kWarpM * (kN / kWarpN), kThreads = kWarps * (kNvidia ? 32 : 64);
  static constexpr int kHalves = 2, kHalf = kStretch / kHalves;  // what a load from shared memory is of; may end a block
  static constexpr int kStageBytes = (kM + kN) * kStretch;
  static constexpr int kScaleBytes = kStages * kHalves * kN * 4;
  static constexpr int kBytes = kStages * kStageBytes + kScaleBytes;
};
using SmallTile = std::conditional_t<kNvidia, Int8Tile<64, 32, 32, 16, 5>, Int8Tile<64, 32, 32, 32, 3>>;
template <typename Weights>
using LargeTile = std::conditional_t<kNvidia, Int8Tile<128, 128, 64, Weights::kBlocks ? 32 : 64, 3>, Int8Tile<128, 64, 64, 32, 2>>;

// Where a piece of 16 bytes of a row is.
BNB_DEVICE uint8_t *piece_of(uint8_t *rows, int row, int piece) {
  return rows + row * kStretch + (piece ^ Int8Unit::turn(row)) * 16;
}

template <typename Tile>
BNB_DEVICE void copy_rows(uint8_t *to, const uint8_t *from, int64_t stride, int64_t first, int64_t rows, int64_t k, int64_t columns,
                          int count) {
  constexpr int kPieces = kStretch / 16;
  for (int i = int(thread_index()); i < count * kPieces; i += Tile::kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool take = first + row < rows && k + piece * 16 < columns;
    copy_async(piece_of(to, row, piece), take ? from + (first + row) * stride + k + piece * 16 : from, take);
  }
}

// Weights that have to become int8, on their way.
template <typename Weights, typename Tile>
struct WeightsAhead {
  static constexpr int kItems = Weights::kStretchItems, kMine = (kItems * Tile::kN + Tile::kThreads - 1) / Tile::kThreads;
  typename Weights::Item items[kMine];

  BNB_DEVICE_METHOD void load(const Int8Product &p, int64_t column, int64_t k) {
    const int64_t all = Weights::items(p.k), first = Weights::stretch_item(k);
    BNB_UNROLL
    for (int j = 0; j < kMine; ++j) {
      const int i = int(thread_index()) + j * Tile::kThreads;
      const int64_t row = column + i / kItems, item = first + i % kItems;
      items[j] = {};
      if (i < kItems * Tile::kN && row < p.n && item < all) items[j] = Weights::load_item(p, row, item);
    }
  }
  BNB_DEVICE_METHOD void store(uint8_t *to, int64_t k) const {
    const int64_t first = Weights::stretch_item(k);
    BNB_UNROLL
    for (int j = 0; j < kMine; ++j) {
      const int i = int(thread_index()) + j * Tile::kThreads, row = i / kItems;
      const int64_t item = first + i % kItems;
      if (i >= kItems * Tile::kN) break;
      BNB_UNROLL
      for (int w = 0; w < Weights::kWords; ++w) {
        const int64_t at = Weights::place(item, w) - k;
        if (at < 0 || at >= kStretch) continue;
        *reinterpret_cast<uint32_t *>(piece_of(to, row, int(at) / 16) + at % 16) = Weights::word(items[j], item, w);
      }
    }
  }
};

// Scales of the blocks that end in a stretch, each behind the half that ends it.
template <typename Weights, typename Tile>
struct ScalesAhead {
  static constexpr int kCount = Tile::kHalves * Tile::kN, kMine = (kCount + Tile::kThreads - 1) / Tile::kThreads;
  float scales[kMine];

  BNB_DEVICE_METHOD void load(const Int8Product &p, int64_t column, int64_t k) {
    BNB_UNROLL
    for (int j = 0; j < kMine; ++j) {
      const int i = int(thread_index()) + j * Tile::kThreads;
      const int64_t row = column + i % Tile::kN, begin = k + i / Tile::kN * Tile::kHalf, block = p.block.of(begin);
      const bool ends = i < kCount && row < p.n && begin < p.k && begin + Tile::kHalf == (block + 1) * p.block.value;
      scales[j] = ends ? Weights::block_scale(p, row, block) : 0.0f;
    }
  }
  BNB_DEVICE_METHOD void store(float *to) const {
    BNB_UNROLL
    for (int j = 0; j < kMine; ++j) {
      const int i = int(thread_index()) + j * Tile::kThreads;
      if (i < kCount) to[i] = scales[j];
    }
  }
};

// The end of a tile, whose sums lie in shared memory: int32, or fp32 of blocks with scales. A thread has four neighbours of a row at a
// time. Loops are not unrolled: there are more outputs than it takes to keep the memory busy.
template <typename Weights, typename Tile>
struct TileEnd {
  using Columns = Outliers<Tile::kM, Tile::kN>;
  static constexpr int kPitch = Tile::kN + 8;  // words; the lanes of a warp write eight rows
  static constexpr int kFours = Tile::kM * Tile::kN / 4;
  static_assert(Tile::kM * kPitch * 4 + int(sizeof(Columns)) <= Tile::kBytes, "it takes the place of the stages");

  const Int8Product &p;
  int64_t row, column;
  uint32_t *sums;
  Columns &outliers;

  BNB_DEVICE_METHOD uint32_t *place(int m, int n) const { return sums + m * kPitch + n; }
  template <typename Body>
  BNB_DEVICE_METHOD void each_four(const Body &body) const {
    for (int i = int(thread_index()); i < kFours; i += Tile::kThreads) {
      const int m = i / (Tile::kN / 4), n = i % (Tile::kN / 4) * 4;
      if (row + m < p.m && column + n < p.n) body(m, n, place(m, n), int(p.n - column - n < 4 ? p.n - column - n : 4));
    }
  }
  BNB_DEVICE_METHOD void scale() const {
    each_four([&](int m, int n, uint32_t *four, int count) {
      for (int j = 0; j < count; ++j) {
        const float sum = Weights::kBlocks ? formats::float_from_bits(four[j]) : float(int(four[j]));
        four[j] = formats::bits_from_float(Weights::scaled(p, sum, row + m, column + n + j));
      }
    });
  }
  BNB_DEVICE_METHOD void add_outliers() const {
    const int64_t count = p.outlier_columns();
    for (int64_t first = 0; first < count; first += Columns::kChunk) {
      barrier();  // what is there is used up
      const int here = outliers.load_chunk(p, first, count, row, column);
      barrier();
      each_four([&](int m, int n, uint32_t *four, int) {
        float values[4];
        BNB_UNROLL
        for (int j = 0; j < 4; ++j) values[j] = formats::float_from_bits(four[j]);
        for (int o = 0; o < here; ++o) {
          BNB_UNROLL
          for (int j = 0; j < 4; ++j) values[j] = fmaf(outliers.x[o][m], outliers.w[o][n + j], values[j]);
        }
        BNB_UNROLL
        for (int j = 0; j < 4; ++j) four[j] = formats::bits_from_float(values[j]);
      });
    }
  }
  BNB_DEVICE_METHOD void store() const {
    each_four([&](int m, int n, uint32_t *four, int count) {
      const int64_t at = (row + m) * p.out_stride + column + n;
      if (p.dtype == DType::kI32 || count < 4) {
        for (int j = 0; j < count; ++j) {
          if (p.dtype == DType::kI32) {
            bnb::store<int32_t>(p.out, at + j, int(four[j]));
          } else {
            store_value(p, row + m, column + n + j, formats::float_from_bits(four[j]));
          }
        }
        return;
      }
      float values[4];
      BNB_UNROLL
      for (int j = 0; j < 4; ++j) {
        values[j] = formats::float_from_bits(four[j]);
        if (p.bias) values[j] += load_as_float(p.bias_dtype, p.bias, column + n + j);
      }
      if (p.dtype == DType::kF32) {
        Items<float, 4> items;
        BNB_UNROLL
        for (int j = 0; j < 4; ++j) items.at[j] = values[j];
        store_items<float, 4>(p.out, at, items);
        return;
      }
      Items<uint16_t, 4> items;
      BNB_UNROLL
      for (int j = 0; j < 4; ++j) items.at[j] = p.dtype == DType::kF16 ? F16::narrow(values[j]) : BF16::narrow(values[j]);
      store_items<uint16_t, 4>(p.out, at, items);
    });
  }
};

template <typename Weights, typename Tile>
BNB_KERNEL void BNB_THREADS(Tile::kThreads) multiply_tiles(Int8Product p) {
  using Unit = Int8Unit;
  constexpr int kTilesM = Tile::kWarpM / Unit::kX, kTilesN = Tile::kWarpN / Unit::kW, kStages = Tile::kStages;
  constexpr bool kCopied = std::is_same_v<Weights, Int8Weights>;
  constexpr int kGroup = 16;  // tiles of rows that blocks take before they go on to other weights: what runs together shares both
  auto *const stages = static_cast<uint8_t *>(dynamic_shared());
  auto *const scales = reinterpret_cast<float *>(stages + kStages * Tile::kStageBytes);

  const int64_t down = ceil_div(p.m, Tile::kM), across = ceil_div(p.n, Tile::kN), group = grid_index() / (kGroup * across);
  const int64_t in_group = grid_index() - group * kGroup * across;
  const int64_t high = down - group * kGroup < kGroup ? down - group * kGroup : kGroup;
  const int64_t row = (group * kGroup + in_group % high) * Tile::kM, column = in_group / high * Tile::kN;
  const int lane = int(lane_index()), warp = int(warp_index());
  const int warp_m = warp % (Tile::kM / Tile::kWarpM) * Tile::kWarpM, warp_n = warp / (Tile::kM / Tile::kWarpM) * Tile::kWarpN;
  const int64_t stretches = ceil_div(p.k, kStretch);

  const auto copy = [&](int64_t stretch) {
    uint8_t *const to = stages + stretch % kStages * Tile::kStageBytes;
    copy_rows<Tile>(to, reinterpret_cast<const uint8_t *>(p.a), p.a_stride, row, p.m, stretch * kStretch, p.k, Tile::kM);
    if constexpr (kCopied) {
      copy_rows<Tile>(to + Tile::kM * kStretch, p.b, p.b_stride, column, p.n, stretch * kStretch, p.k, Tile::kN);
    }
  };
  [[maybe_unused]] WeightsAhead<std::conditional_t<kCopied, TwoBitWeights<false>, Weights>, Tile> ahead{};
  [[maybe_unused]] ScalesAhead<Weights, Tile> scales_ahead{};
  const auto load = [&](int64_t stretch) {
    if constexpr (!kCopied) ahead.load(p, column, stretch * kStretch);
    if constexpr (Weights::kBlocks) scales_ahead.load(p, column, stretch * kStretch);
  };
  const auto decode = [&](int64_t stretch) {
    const int64_t stage = stretch % kStages;
    if constexpr (!kCopied) ahead.store(stages + stage * Tile::kStageBytes + Tile::kM * kStretch, stretch * kStretch);
    if constexpr (Weights::kBlocks) scales_ahead.store(scales + stage * Tile::kHalves * Tile::kN);
  };

  for (int64_t stretch = 0; stretch < kStages - 1; ++stretch) {
    if (stretch < stretches) {
      copy(stretch);
      load(stretch);
      decode(stretch);
    }
    commit_copies();
  }

  int sums[kTilesM][kTilesN][4] = {};
  [[maybe_unused]] float values[kTilesM][kTilesN][4] = {};  // of blocks that have ended
  int64_t left = p.block.value;            // columns of the running block
  for (int64_t stretch = 0; stretch < stretches; ++stretch) {
    wait_for_copies<kStages - 2>();
    barrier();  // the stretch is there, and the one before is used up
    const int64_t next = stretch + kStages - 1;
    if (next < stretches) {
      copy(next);
      load(next);
    }
    commit_copies();
    uint8_t *const x_rows = stages + stretch % kStages * Tile::kStageBytes, *const w_rows = x_rows + Tile::kM * kStretch;
    BNB_UNROLL
    for (int half = 0; half < Tile::kHalves; ++half) {
      const int piece = half * 4 + Unit::part(lane);
      Sixteen x[kTilesM][Unit::kXRows];
      BNB_UNROLL
      for (int i = 0; i < kTilesM; ++i) {
        BNB_UNROLL
        for (int r = 0; r < Unit::kXRows; ++r) {
          x[i][r] = __builtin_bit_cast(Sixteen, *reinterpret_cast<const Items<uint32_t, 4> *>(
                                                    piece_of(x_rows, warp_m + i * Unit::kX + Unit::x_row(lane, r), piece)));
        }
      }
      BNB_UNROLL
      for (int j = 0; j < kTilesN; ++j) {
        const auto w = __builtin_bit_cast(Sixteen, *reinterpret_cast<const Items<uint32_t, 4> *>(
                                                       piece_of(w_rows, warp_n + j * Unit::kW + Unit::w_row(lane), piece)));
        BNB_UNROLL
        for (int i = 0; i < kTilesM; ++i) Unit::multiply(sums[i][j], x[i], w);
      }
      if constexpr (Weights::kBlocks) {
        left -= Tile::kHalf;
        if (left != 0) continue;
        left = p.block.value;
        const float *const of_half = scales + (stretch % kStages * Tile::kHalves + half) * Tile::kN + warp_n;
        BNB_UNROLL
        for (int j = 0; j < kTilesN; ++j) {
          BNB_UNROLL
          for (int s = 0; s < 4; ++s) {
            const float scale = of_half[j * Unit::kW + Unit::n(lane, s)];
            BNB_UNROLL
            for (int i = 0; i < kTilesM; ++i) {
              values[i][j][s] = fmaf(float(sums[i][j][s]), scale, values[i][j][s]);
              sums[i][j][s] = 0;
            }
          }
        }
      }
    }
    if (next < stretches) decode(next);
  }

  barrier();  // the last stretch is used up
  using End = TileEnd<Weights, Tile>;
  const End end{p, row, column, reinterpret_cast<uint32_t *>(stages),
                *reinterpret_cast<typename End::Columns *>(stages + Tile::kM * End::kPitch * 4)};
  BNB_UNROLL
  for (int i = 0; i < kTilesM; ++i) {
    BNB_UNROLL
    for (int j = 0; j < kTilesN; ++j) {
      BNB_UNROLL
      for (int s = 0; s < 4; s += 2) {
        Items<uint32_t, 2> two;
        BNB_UNROLL
        for (int v = 0; v < 2; ++v) {
          two.at[v] = Weights::kBlocks ? formats::bits_from_float(values[i][j][s + v]) : uint32_t(sums[i][j][s + v]);
        }
        *reinterpret_cast<Items<uint32_t, 2> *>(
            end.place(warp_m + i * Unit::kX + Unit::m(lane, s), warp_n + j * Unit::kW + Unit::n(lane, s))) = two;
      }
    }
  }
  barrier();
  if (p.dtype != DType::kI32) {
    end.scale();
    end.add_outliers();
  }
  end.store();
}

inline bool aligned16(const void *p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Where loads of weights are aligned is for the operation to say.
template <typename Tile>
bool fits_matrix(const Int8Product &p, const Queue &queue) {
  return (has_mma(queue) || has_mfma(queue)) && device_of(queue).max_shared >= Tile::kBytes && aligned16(p.a) &&
         p.a_stride % 16 == 0 && p.k % 16 == 0 && p.k > 0 && ceil_div(p.m, Tile::kM) * ceil_div(p.n, Tile::kN) <= kMaxBlocks;
}

template <typename Weights, typename Tile>
bnb_status launch_matrix(const Int8Product &p, const Queue &queue) {
  const Grid grid{ceil_div(p.m, Tile::kM) * ceil_div(p.n, Tile::kN), Tile::kThreads, size_t(Tile::kBytes)};
  return launch(multiply_tiles<Weights, Tile>, grid, queue, p);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_MATRIX_PRODUCT_H_
