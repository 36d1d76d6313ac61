// SPDX-License-Identifier: MIT
// Products with many rows of activations by wgmma, Hopper's instruction of four warps. SUM; w_error as in weight_pairs.h.
//
// A block has a tile of 128 rows of weights by 128 of activations, two groups of four warps with 64 rows of weights each. Codes and
// activations come through shared memory, kStages stretches of 64 columns at a time. A lane decodes the codes that the instruction
// wants from its registers while the one before works on activations in shared memory; sums of a block are scaled in fp32.
// For 64 columns the two groups take 512 cycles of the matrix unit, 256 of shared memory for activations, and at most 256 for
// decoding (4-bit codes: 128 look-ups and as many loads of codes).
#ifndef BNB_CUDA_GEMM_SM90_H_
#define BNB_CUDA_GEMM_SM90_H_

#include "gpu/activation_stages.h"

namespace bnb::gpu {

constexpr int kHopperThreads = 256, kHopperStages = 4, kHopperTile = 128;

// Codes of 64 columns of 128 rows; rows lie so far apart that eight of them meet all banks once.
template <int kBits>
struct CodeStage {
  static constexpr int kRowBytes = kStageColumns * kBits / 8, kStride = kRowBytes + 16, kPieces = kRowBytes / 16;
  static constexpr int kBytes = kHopperTile * kStride;

  static BNB_DEVICE_METHOD void fill(char *stage, const Gemm &args, int64_t n0, int k, bool aligned) {
    for (int at = int(thread_index()); at < kHopperTile * kPieces; at += kHopperThreads) {
      const int row = at / kPieces, piece = at % kPieces;
      const int columns = k + piece * 16 * 8 / kBits;
      const bool take = n0 + row < args.n && columns < args.k;
      const int64_t first = take ? ((n0 + row) * args.k + columns) * kBits / 8 : 0;
      copy_piece(stage + row * kStride + piece * 16, args.b + first, take, aligned);
    }
  }
};

template <typename Pairs>
struct HopperShared {
  using Activations = ActivationStage<kHopperTile, kHopperThreads>;
  using Codes = CodeStage<Pairs::kBits>;
  union {
    struct {
      char activations[kHopperStages][Activations::kBytes];
      char codes[kHopperStages][Codes::kBytes];
      typename Pairs::Table table;
    };
    float sums[kHopperTile][kHopperTile + 4];
  };
};

// What a lane of mma's layout has of 16 columns of rows `row` and `row` + 8: columns 2 t, 2 t + 1 and 8 more of each.
template <typename Pairs>
BNB_DEVICE void decode_step(const typename Pairs::Table &table, const char *codes, int row, int t, int step, uint32_t (&a)[4]) {
  using Stage = CodeStage<Pairs::kBits>;
  BNB_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int bit = (step * 16 + i / 2 * 8 + t * 2) * Pairs::kBits;
    const char *word = codes + (row + i % 2 * 8) * Stage::kStride + bit / 32 * 4;
    a[i] = Pairs::pair(table, *reinterpret_cast<const uint32_t *>(word) >> (bit % 32));
  }
}

// kSteps of 16 columns share a scale.
template <typename Tag, typename Pairs, int kSteps>
BNB_KERNEL void BNB_THREADS(kHopperThreads) multiply_hopper(Gemm args, int64_t tiles_m, int64_t row_blocks) {
  if constexpr (kMatrixLevel >= 2) {
    using Shared = HopperShared<Pairs>;
    using Activations = typename Shared::Activations;
    using Codes = typename Shared::Codes;
    constexpr int kGroups = 4 / kSteps;
    auto &shared = *static_cast<Shared *>(dynamic_shared());
    const ScaleReader scales(args.reader);
    const bool aligned = aligned_activations(args), aligned_codes = reinterpret_cast<uintptr_t>(args.b) % 16 == 0;
    const int lane = int(lane_index()), g = lane / 4, t = lane % 4, columns = int(args.k);
    const int64_t n0 = grid_index() / tiles_m * kHopperTile, m0 = grid_index() % tiles_m * kHopperTile;
    const int row = int(warp_index()) * 16 + g;  // of the tile, and 8 more

    const auto fill = [&](int stage, int k) {
      if (k < columns) {
        Activations::fill(shared.activations[stage], args, m0, k, aligned);
        Codes::fill(shared.codes[stage], args, n0, k, aligned_codes);
      }
      commit_copies();
    };
    const auto load_scales = [&](int k, float (&scale)[kGroups][2]) {
      BNB_UNROLL
      for (int h = 0; h < kGroups; ++h) {
        const int column = k + h * kSteps * 16;
        if (column >= columns) break;
        BNB_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int64_t n = n0 + row + i * 8 < args.n ? n0 + row + i * 8 : args.n - 1;
          scale[h][i] = scales.at(n * row_blocks + args.row_blocks.of(column));
        }
      }
    };

    BNB_UNROLL
    for (int i = 0; i < kHopperStages - 1; ++i) fill(i, i * kStageColumns);
    float scale[kGroups][2] = {}, next_scale[kGroups][2] = {};
    load_scales(0, scale);
    Pairs::fill(shared.table, args.quant_type);
    wait_for_copies<kHopperStages - 2>();
    wgmma_publish();
    barrier();

    float sum[2][32] = {}, part[2][32];
    uint32_t a[4][4], next[4][4];
    BNB_UNROLL
    for (int s = 0; s < 4; ++s) decode_step<Pairs>(shared.table, shared.codes[0], row, t, s, a[s]);
    int stage = 0;
    for (int k = 0; k < columns; k += kStageColumns) {
      const int following = stage + 1 == kHopperStages ? 0 : stage + 1;
      BNB_UNROLL
      for (int h = 0; h < kGroups; ++h) {
        wgmma_begin();
        BNB_UNROLL
        for (int s = h * kSteps; s < (h + 1) * kSteps; ++s) {
          BNB_UNROLL
          for (int c = 0; c < 2; ++c) {
            const char *from = shared.activations[stage] + Activations::place(c * 64, s * 2);
            wgmma_m64n64k16<Tag>(part[c], a[s], wgmma_rows(from, Activations::kAcross, Activations::kDown), s != h * kSteps);
          }
        }
        wgmma_commit();
        if (h == 0 && k + kStageColumns < columns) {  // meanwhile, what comes next
          load_scales(k + kStageColumns, next_scale);
          wait_for_copies<kHopperStages - 3>();
          wgmma_publish();
          barrier();  // the next stage is there for all, and all are done with the one before
          fill(stage == 0 ? kHopperStages - 1 : stage - 1, k + (kHopperStages - 1) * kStageColumns);
          BNB_UNROLL
          for (int s = 0; s < 4; ++s) decode_step<Pairs>(shared.table, shared.codes[following], row, t, s, next[s]);
        }
        wgmma_wait<0>();
        BNB_UNROLL
        for (int c = 0; c < 2; ++c) {
          wgmma_keep(part[c]);
          BNB_UNROLL
          for (int j = 0; j < 32; ++j) sum[c][j] = fmaf(part[c][j], scale[h][j / 2 % 2], sum[c][j]);
        }
      }
      stage = following;
      __builtin_memcpy(scale, next_scale, sizeof scale);
      __builtin_memcpy(a, next, sizeof a);
    }

    wait_for_copies<0>();
    barrier();  // nobody needs stages or the table any more
    BNB_UNROLL
    for (int c = 0; c < 2; ++c) {
      BNB_UNROLL
      for (int j = 0; j < 32; ++j) {
        shared.sums[c * 64 + j / 4 * 8 + t * 2 + j % 2][row + j / 2 % 2 * 8] = sum[c][j];
      }
    }
    barrier();
    write_tile<Tag, kHopperTile, kHopperTile, 4, kHopperThreads>(&shared.sums[0][0], args, n0, m0);
  }
}

// With up to 64 rows of weights one group of warps would have none.
inline bool many_rows_hopper(const GemmArgs &args, const Queue &queue, int64_t codes) {
  return args.m > 64 && args.n > 64 && args.dtype != DType::kF32 && has_wgmma(queue) && whole_blocks(args, codes) && args.n < INT32_MAX &&
         args.m < INT32_MAX && ceil_div(args.n, kHopperTile) * ceil_div(args.m, kHopperTile) <= kMaxBlocks;
}

template <typename Tag, typename Pairs, int kSteps>
bnb_status multiply_many_rows_hopper(const GemmArgs &args, const Queue &queue) {
  const int64_t tiles_m = ceil_div(args.m, kHopperTile);
  const Grid grid{ceil_div(args.n, kHopperTile) * tiles_m, kHopperThreads, sizeof(HopperShared<Pairs>)};
  return launch(multiply_hopper<Tag, Pairs, kSteps>, grid, queue, Gemm(args), tiles_m, args.k / args.blocksize);
}

}  // namespace bnb::gpu

#endif  // BNB_CUDA_GEMM_SM90_H_
