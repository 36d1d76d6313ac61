// SPDX-License-Identifier: MIT
// Products with up to 64 rows of activations by matrix instructions, on 16-bit activations. SUM; w_error as in weight_pairs.h.
//
// Bound by memory, as gemm_few.h is, with less to do for a weight: two codes take a shift, a mask and a load from shared memory.
// The warps of a block share the columns of kRowTiles times 16 rows of weights; nothing is staged, since no other warp wants what
// a lane loads. It loads kAhead stretches of columns before it needs them. Each stretch lies in one block of scales: its sums are
// scaled in fp32 and added to those of the stretches before. The warps' sums are added in their order.
#ifndef BNB_GPU_GEMM_MATRIX_FEW_H_
#define BNB_GPU_GEMM_MATRIX_FEW_H_

#include "gpu/gemm.h"
#include "gpu/matrix_unit.h"
#include "gpu/weight_pairs.h"

namespace bnb::gpu {

constexpr int kMatrixRowTiles = 2, kMatrixRows = 16 * kMatrixRowTiles;

// What a lane loads of a stretch of 4 kCodes columns.
template <typename Pairs, int kCodes, int kColTiles>
struct MatrixLoads {
  using Unit = MatrixUnit;
  static constexpr int kBits = kCodes * Pairs::kBits, kWords = kBits < 32 ? 1 : kBits / 32;

  uint32_t codes[kMatrixRowTiles][Unit::kRows][kWords];
  float scale[kMatrixRowTiles][4 / Unit::kSumsPerRow];
  uint32_t x[kColTiles][kCodes / 2];

  BNB_DEVICE_METHOD void load_weights(const Gemm &args, const ScaleReader &scales, int64_t row0, int lane, int k,
                                      int64_t row_blocks) {
    const int block = args.row_blocks.of(k), mine = k + Unit::part(lane) * kCodes;
    const int64_t last = args.n - 1;  // read again in place of rows that are not there
    BNB_UNROLL
    for (int tile = 0; tile < kMatrixRowTiles; ++tile) {
      BNB_UNROLL
      for (int r = 0; r < Unit::kRows; ++r) {
        const int64_t row = row0 + tile * 16 + Unit::row(lane, r), first = (row < last ? row : last) * args.k + mine;
        const uint8_t *place = args.b + (Pairs::kBits == 4 ? first / 2 : first);
        if constexpr (kBits < 32) {
          codes[tile][r][0] = bnb::load<uint16_t>(place, 0);
        } else {
          load_words<kWords>(place, codes[tile][r]);
        }
      }
      BNB_UNROLL
      for (int j = 0; j < 4; j += Unit::kSumsPerRow) {
        const int64_t row = row0 + tile * 16 + Unit::sum_row(lane, j);
        scale[tile][j / Unit::kSumsPerRow] = scales.at((row < last ? row : last) * row_blocks + block);
      }
    }
  }
  BNB_DEVICE_METHOD void load_activations(const Gemm &args, int64_t m0, int lane, int k, int tile) {
    const int64_t m = m0 + tile * Unit::kCols + Unit::column(lane);
    BNB_UNROLL
    for (int i = 0; i < kCodes / 2; ++i) x[tile][i] = 0;
    if (m >= args.m) return;
    const int64_t first = m * args.a_stride + k + Unit::part(lane) * kCodes;
    load_words<kCodes / 2>(static_cast<const uint16_t *>(args.a) + first, x[tile]);
  }
};

// The codes of a lane as what its steps multiply.
template <typename Pairs, int kCodes, int kRowTiles, typename Table>
BNB_DEVICE void decode_steps(const Table &table, const uint32_t *codes,
                             uint32_t (&w)[kCodes / 4][kRowTiles][MatrixUnit::kRows][2]) {
  constexpr int kWords = kCodes * Pairs::kBits < 32 ? 1 : kCodes * Pairs::kBits / 32;
  BNB_UNROLL
  for (int tile = 0; tile < kRowTiles; ++tile) {
    BNB_UNROLL
    for (int r = 0; r < MatrixUnit::kRows; ++r) {
      BNB_UNROLL
      for (int i = 0; i < kCodes / 2; ++i) {
        const int bit = i * 2 * Pairs::kBits;
        const uint32_t word = codes[(tile * MatrixUnit::kRows + r) * kWords + bit / 32];
        w[i / 2][tile][r][i % 2] = Pairs::pair(table, word >> (bit % 32));
      }
    }
  }
}

template <typename Tag, typename Pairs, int kCodes, int kColTiles, int kSplit>
struct MatrixFewShared {
  union {
    typename Pairs::Table table;
    float partial[kSplit][kColTiles * MatrixUnit::kCols][kMatrixRows];
  };
};

template <typename Tag, typename Pairs, int kCodes, int kColTiles, int kSplit, int kAhead>
BNB_KERNEL void BNB_THREADS(kSplit *MatrixUnit::kLanes) multiply_matrix_few(Gemm args, int64_t tiles_n, int64_t row_blocks) {
  if constexpr (kMatrixLevel >= 1) {
    using Unit = MatrixUnit;
    using Loads = MatrixLoads<Pairs, kCodes, kColTiles>;
    auto &shared = *static_cast<MatrixFewShared<Tag, Pairs, kCodes, kColTiles, kSplit> *>(dynamic_shared());
    const ScaleReader scales(args.reader);
    const int lane = int(lane_index()), share = int(warp_index()), columns = int(args.k);
    const int64_t n0 = grid_index() % tiles_n * kMatrixRows, m0 = grid_index() / tiles_n * (kColTiles * Unit::kCols);
    constexpr int kStretch = 4 * kCodes, kNext = kSplit * kStretch;

    Loads loads[kAhead];
    BNB_UNROLL
    for (int u = 0; u < kAhead; ++u) {
      const int k = share * kStretch + u * kNext;
      if (k >= columns) break;
      loads[u].load_weights(args, scales, n0, lane, k, row_blocks);
      BNB_UNROLL
      for (int tile = 0; tile < kColTiles; ++tile) loads[u].load_activations(args, m0, lane, k, tile);
    }
    Pairs::fill(shared.table, args.quant_type);
    barrier();

    float sum[kMatrixRowTiles][kColTiles][4] = {};
    for (int k0 = share * kStretch; k0 < columns; k0 += kAhead * kNext) {
      BNB_UNROLL
      for (int u = 0; u < kAhead; ++u) {
        if (k0 + u * kNext >= columns) break;
        const int k_next = k0 + (u + kAhead) * kNext;
        uint32_t w[kCodes / 4][kMatrixRowTiles][Unit::kRows][2];
        decode_steps<Pairs, kCodes, kMatrixRowTiles>(shared.table, &loads[u].codes[0][0][0], w);
        float scale[kMatrixRowTiles][4 / Unit::kSumsPerRow];
        __builtin_memcpy(scale, loads[u].scale, sizeof scale);
        if (k_next < columns) loads[u].load_weights(args, scales, n0, lane, k_next, row_blocks);
        BNB_UNROLL
        for (int c = 0; c < kColTiles; ++c) {
          float part[kMatrixRowTiles][4] = {};
          BNB_UNROLL
          for (int s = 0; s < kCodes / 4; ++s) {
            const uint32_t x[2] = {loads[u].x[c][2 * s], loads[u].x[c][2 * s + 1]};
            BNB_UNROLL
            for (int tile = 0; tile < kMatrixRowTiles; ++tile) Unit::multiply<Tag>(part[tile], w[s][tile], x);
          }
          if (k_next < columns) loads[u].load_activations(args, m0, lane, k_next, c);
          BNB_UNROLL
          for (int tile = 0; tile < kMatrixRowTiles; ++tile) {
            BNB_UNROLL
            for (int j = 0; j < 4; ++j) {
              sum[tile][c][j] = fmaf(part[tile][j], scale[tile][j / Unit::kSumsPerRow], sum[tile][c][j]);
            }
          }
        }
      }
    }

    barrier();  // nobody looks up codes any more
    BNB_UNROLL
    for (int tile = 0; tile < kMatrixRowTiles; ++tile) {
      BNB_UNROLL
      for (int c = 0; c < kColTiles; ++c) {
        BNB_UNROLL
        for (int j = 0; j < 4; ++j) {
          shared.partial[share][c * Unit::kCols + Unit::sum_column(lane, j)][tile * 16 + Unit::sum_row(lane, j)] =
              sum[tile][c][j];
        }
      }
    }
    barrier();
    for (int i = int(thread_index()); i < kColTiles * Unit::kCols * kMatrixRows; i += kSplit * Unit::kLanes) {
      const int64_t m = m0 + i / kMatrixRows, n = n0 + i % kMatrixRows;
      if (m >= args.m || n >= args.n) continue;
      float total = shared.partial[0][i / kMatrixRows][i % kMatrixRows];
      for (int s = 1; s < kSplit; ++s) total += shared.partial[s][i / kMatrixRows][i % kMatrixRows];
      store_float<Tag>(args.out, m * args.out_stride + n, total + bias_of(args, n));
    }
  }
}

// Where matrix instructions take the dtype as it is. MFMA of gfx90a makes zeros of fp16's subnormal numbers.
inline bool matrix_dtype(const GemmArgs &args, const Queue &queue) {
  if (args.dtype == DType::kF32) return false;
  return has_mma(queue) || (has_mfma(queue) && (args.dtype == DType::kBF16 || device_of(queue).arch >= 0x940));
}
inline bool few_rows_matrix(const GemmArgs &args, const Queue &queue, int64_t codes) {
  return args.m <= 64 && matrix_dtype(args, queue) && whole_blocks(args, codes) && args.n < INT32_MAX;
}

template <typename Tag, typename Pairs, int kCodes, int kColTiles, int kSplit, int kAhead>
bnb_status launch_matrix_few(const GemmArgs &args, const Queue &queue) {
  const int64_t tiles_n = ceil_div(args.n, kMatrixRows);
  const Grid grid{tiles_n * ceil_div(args.m, kColTiles * MatrixUnit::kCols), kSplit * MatrixUnit::kLanes,
                  sizeof(MatrixFewShared<Tag, Pairs, kCodes, kColTiles, kSplit>)};
  return launch(multiply_matrix_few<Tag, Pairs, kCodes, kColTiles, kSplit, kAhead>, grid, queue, Gemm(args), tiles_n,
                args.k / args.blocksize);
}

// More warps of fewer registers where there are few rows. Of a stretch, 2 KiB of codes are on their way for each warp.
template <typename Tag, typename Pairs, int kCodes>
bnb_status multiply_matrix_few_rows(const GemmArgs &args, const Queue &queue) {
  constexpr int kShare = MatrixUnit::kLanes / 32, kBytes = kCodes * Pairs::kBits / 8;
  if constexpr (MatrixUnit::kCols == 8) {
    if (args.m <= 8) return launch_matrix_few<Tag, Pairs, kCodes, 1, 16, kBytes <= 8 ? 2 : 1>(args, queue);
  }
  if (args.m <= 16) return launch_matrix_few<Tag, Pairs, kCodes, 2 / kShare, 16 / kShare, kBytes <= 4 ? 2 : 1>(args, queue);
  return launch_matrix_few<Tag, Pairs, kCodes, 8 / kShare, 8 / kShare, 1>(args, queue);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_MATRIX_FEW_H_
