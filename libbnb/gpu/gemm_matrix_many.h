// SPDX-License-Identifier: MIT
// Products with many rows of activations by mma and mfma. SUM; w_error as in weight_pairs.h.
//
// Bound by the matrix units, if decoding keeps up: a block has a tile of 128 rows of weights, 32 for each of four warps, by 64
// activations for each warp beside the other. A weight is decoded once for these. Activations come through shared memory, kStages
// stretches of 64 columns at a time; codes are loaded a stretch ahead. As in gemm_matrix_few.h sums are scaled by the block.
#ifndef BNB_GPU_GEMM_MATRIX_MANY_H_
#define BNB_GPU_GEMM_MATRIX_MANY_H_

#include "gpu/activation_stages.h"
#include "gpu/gemm_matrix_few.h"

namespace bnb::gpu {

constexpr int kManyThreads = 256, kManyStages = 3;
constexpr int kManyWarpsN = 4, kManyWarpsM = kManyThreads / MatrixUnit::kLanes / kManyWarpsN;
constexpr int kManyTileN = kManyWarpsN * kMatrixRows, kManyTileM = kManyWarpsM * 64;

template <typename Pairs>
struct MatrixManyShared {
  using Stage = ActivationStage<kManyTileM, kManyThreads>;
  union {
    struct {
      char stages[kManyStages][Stage::kBytes];
      typename Pairs::Table table;
    };
    float sums[kManyTileM][kManyTileN + 4];
  };
};

template <typename Tag, typename Pairs, int kCodes>
BNB_KERNEL void BNB_THREADS(kManyThreads) multiply_matrix_many(Gemm args, int64_t tiles_m, int64_t row_blocks) {
  if constexpr (kMatrixLevel >= 1) {
    using Unit = MatrixUnit;
    using Loads = MatrixLoads<Pairs, kCodes, 1>;
    using Shared = MatrixManyShared<Pairs>;
    using Stage = typename Shared::Stage;
    constexpr int kColTiles = 64 / Unit::kCols, kStretch = 4 * kCodes, kStretches = kStageColumns / kStretch;
    auto &shared = *static_cast<Shared *>(dynamic_shared());
    const ScaleReader scales(args.reader);
    const bool aligned = aligned_activations(args);
    const int lane = int(lane_index()), columns = int(args.k);
    const int warp_n = int(warp_index()) % kManyWarpsN, warp_m = int(warp_index()) / kManyWarpsN;
    const int64_t n0 = grid_index() / tiles_m * kManyTileN, m0 = grid_index() % tiles_m * kManyTileM;
    const int64_t row0 = n0 + warp_n * kMatrixRows;

    Loads loads[kStretches];
    BNB_UNROLL
    for (int h = 0; h < kStretches; ++h) {
      if (h * kStretch < columns) loads[h].load_weights(args, scales, row0, lane, h * kStretch, row_blocks);
    }
    BNB_UNROLL
    for (int i = 0; i < kManyStages - 1; ++i) {
      if (i * kStageColumns < columns) Stage::fill(shared.stages[i], args, m0, i * kStageColumns, aligned);
      commit_copies();
    }
    Pairs::fill(shared.table, args.quant_type);

    float sum[kMatrixRowTiles][kColTiles][4] = {};
    int stage = 0;
    for (int k0 = 0; k0 < columns; k0 += kStageColumns) {
      wait_for_copies<kManyStages - 2>();
      barrier();  // the stage is there for all, and all are done with the one before
      const int behind = stage == 0 ? kManyStages - 1 : stage - 1, k_fill = k0 + (kManyStages - 1) * kStageColumns;
      if (k_fill < columns) Stage::fill(shared.stages[behind], args, m0, k_fill, aligned);
      commit_copies();
      BNB_UNROLL
      for (int h = 0; h < kStretches; ++h) {
        if (k0 + h * kStretch >= columns) break;
        uint32_t w[kCodes / 4][kMatrixRowTiles][Unit::kRows][2];
        decode_steps<Pairs, kCodes, kMatrixRowTiles>(shared.table, &loads[h].codes[0][0][0], w);
        float scale[kMatrixRowTiles][4 / Unit::kSumsPerRow];
        __builtin_memcpy(scale, loads[h].scale, sizeof scale);
        const int k_next = k0 + kStageColumns + h * kStretch;
        if (k_next < columns) loads[h].load_weights(args, scales, row0, lane, k_next, row_blocks);
        const int column = h * kStretch + Unit::part(lane) * kCodes;
        BNB_UNROLL
        for (int c = 0; c < kColTiles; ++c) {
          const char *from =
              shared.stages[stage] + Stage::place(warp_m * 64 + c * Unit::kCols + Unit::column(lane), column / 8) + column % 8 * 2;
          uint32_t x[kCodes / 2];
          if constexpr (kCodes == 16) {
            load_words<4>(from, x);
            load_words<4>(from + Stage::kAcross, x + 4);
          } else {
            load_words<kCodes / 2>(from, x);
          }
          float part[kMatrixRowTiles][4] = {};
          BNB_UNROLL
          for (int s = 0; s < kCodes / 4; ++s) {
            const uint32_t step[2] = {x[2 * s], x[2 * s + 1]};
            BNB_UNROLL
            for (int tile = 0; tile < kMatrixRowTiles; ++tile) Unit::multiply<Tag>(part[tile], w[s][tile], step);
          }
          BNB_UNROLL
          for (int tile = 0; tile < kMatrixRowTiles; ++tile) {
            BNB_UNROLL
            for (int j = 0; j < 4; ++j) {
              sum[tile][c][j] = fmaf(part[tile][j], scale[tile][j / Unit::kSumsPerRow], sum[tile][c][j]);
            }
          }
        }
      }
      stage = stage + 1 == kManyStages ? 0 : stage + 1;
    }

    wait_for_copies<0>();
    barrier();  // nobody needs stages or the table any more
    BNB_UNROLL
    for (int tile = 0; tile < kMatrixRowTiles; ++tile) {
      BNB_UNROLL
      for (int c = 0; c < kColTiles; ++c) {
        BNB_UNROLL
        for (int j = 0; j < 4; ++j) {
          shared.sums[warp_m * 64 + c * Unit::kCols + Unit::sum_column(lane, j)]
                     [warp_n * kMatrixRows + tile * 16 + Unit::sum_row(lane, j)] = sum[tile][c][j];
        }
      }
    }
    barrier();
    write_tile<Tag, kManyTileN, kManyTileM, 4, kManyThreads>(&shared.sums[0][0], args, n0, m0);
  }
}

inline bool many_rows_matrix(const GemmArgs &args, const Queue &queue, int64_t codes) {
  return matrix_dtype(args, queue) && whole_blocks(args, codes) && args.n < INT32_MAX && args.m < INT32_MAX &&
         ceil_div(args.n, kManyTileN) * ceil_div(args.m, kManyTileM) <= kMaxBlocks;
}

template <typename Tag, typename Pairs, int kCodes>
bnb_status multiply_matrix_many_rows(const GemmArgs &args, const Queue &queue) {
  const int64_t tiles_m = ceil_div(args.m, kManyTileM);
  const Grid grid{ceil_div(args.n, kManyTileN) * tiles_m, kManyThreads, sizeof(MatrixManyShared<Pairs>)};
  return launch(multiply_matrix_many<Tag, Pairs, kCodes>, grid, queue, Gemm(args), tiles_m, args.k / args.blocksize);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_MATRIX_MANY_H_
