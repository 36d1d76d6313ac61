// SPDX-License-Identifier: MIT
// Products with few rows of activations, in fp32: out[m][n] = sum over blocks of scale * (sum of a * code), + bias. SUM, w_error 0.
//
// Bound by memory: codes are read once. A warp takes kRows rows of weights, a lane eight neighbouring codes of each, so that what it
// loads of activations serves all rows; kSplit warps share the columns, and their sums are added in a fixed order. With 4-bit codes
// a weight takes a shift, a mask, a load from shared memory (one cycle for a warp: without conflicts) and an fma per row.
#ifndef BNB_GPU_GEMM_FEW_H_
#define BNB_GPU_GEMM_FEW_H_

#include "gpu/gemm.h"
#include "gpu/weights.h"

namespace bnb::gpu {

constexpr int kFewThreads = 256, kFewRows = 4, kFewSplit = 4;
constexpr int kFewMost = 8;  // rows of activations

template <typename Codec>
struct FewLoads {
  typename Codec::Codes codes[kFewRows];
  float scale[kFewRows];

  BNB_DEVICE_METHOD void load(const Gemm &args, const ScaleReader &scales, const int64_t *rows, int k, int64_t row_blocks) {
    const int block = args.row_blocks.of(k);
    BNB_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      codes[r] = Codec::load_codes(args.b, rows[r] * args.k + k, INT64_MAX);
      scale[r] = scales.at(rows[r] * row_blocks + block);
    }
  }
};

template <typename Tag, typename Codec, int kM>
BNB_KERNEL void BNB_THREADS(kFewThreads) multiply_few(Gemm args, int64_t row_blocks) {
  constexpr int kGroups = kFewThreads / kWarp / kFewSplit;
  static_assert(kGroups >= 1, "a block has a warp for every share of the columns");
  BNB_SHARED typename Codec::Table table;
  BNB_SHARED float partial[kGroups][kFewSplit][kFewRows * kM];
  Codec::fill(table, args.quant_type);
  barrier();
  const ScaleReader scales(args.reader);
  const int group = int(warp_index()) / kFewSplit, share = int(warp_index()) % kFewSplit;
  constexpr int kStep = kFewSplit * kWarp * 8;
  for (int64_t tile = grid_index(); tile * kGroups * kFewRows < args.n; tile += grid_count()) {
    int64_t rows[kFewRows];
    BNB_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      const int64_t row = (tile * kGroups + group) * kFewRows + r;
      rows[r] = row < args.n ? row : args.n - 1;  // read again, not written
    }
    float sum[kFewRows][kM] = {};
    const int columns = int(args.k);
    int k = (share * kWarp + int(lane_index())) * 8;
    FewLoads<Codec> next;
    if (k < columns) next.load(args, scales, rows, k, row_blocks);
    while (k < columns) {
      const FewLoads<Codec> now = next;
      if (k + kStep < columns) next.load(args, scales, rows, k + kStep, row_blocks);
      float w[kFewRows][8];
      BNB_UNROLL
      for (int r = 0; r < kFewRows; ++r) Codec::decode(table, now.codes[r], w[r]);
      BNB_UNROLL
      for (int m = 0; m < kM; ++m) {
        if (m >= args.m) break;
        float a[8];
        load_eight<Tag>(args.a, m * args.a_stride + k, a);
        BNB_UNROLL
        for (int r = 0; r < kFewRows; ++r) {
          float dot = a[0] * w[r][0];
          BNB_UNROLL
          for (int j = 1; j < 8; ++j) dot = fmaf(a[j], w[r][j], dot);
          sum[r][m] = fmaf(dot, now.scale[r], sum[r][m]);
        }
      }
      k += kStep;
    }
    BNB_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      BNB_UNROLL
      for (int m = 0; m < kM; ++m) {
        BNB_UNROLL
        for (int mask = kWarp / 2; mask > 0; mask /= 2) sum[r][m] += shuffle_xor(sum[r][m], mask);
        if (lane_index() == 0) partial[group][share][r * kM + m] = sum[r][m];
      }
    }
    barrier();
    for (int i = int(thread_index()); i < kGroups * kFewRows * kM; i += kFewThreads) {
      const int of_group = i / (kFewRows * kM), r = i / kM % kFewRows, m = i % kM;
      const int64_t row = (tile * kGroups + of_group) * kFewRows + r;
      if (row >= args.n || m >= args.m) continue;
      float total = partial[of_group][0][r * kM + m];
      BNB_UNROLL
      for (int s = 1; s < kFewSplit; ++s) total += partial[of_group][s][r * kM + m];
      store_float<Tag>(args.out, m * args.out_stride + row, total + bias_of(args, row));
    }
    barrier();
  }
}

inline bool few_rows(const GemmArgs &args, const Queue &) { return args.m <= kFewMost && whole_blocks(args, 8); }

template <typename Codec>
bnb_status multiply_few_rows(const GemmArgs &args, const Queue &queue) {
  bnb_status status = BNB_OK;
  const int groups = kFewThreads / device_of(queue).warp / kFewSplit;
  const Grid grid{blocks_for(queue, ceil_div(args.n, groups * kFewRows), 1 << 12), kFewThreads};
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    const auto kernel = args.m == 1   ? multiply_few<Tag, Codec, 1>
                        : args.m == 2 ? multiply_few<Tag, Codec, 2>
                        : args.m <= 4 ? multiply_few<Tag, Codec, 4>
                                      : multiply_few<Tag, Codec, kFewMost>;
    status = launch(kernel, grid, queue, Gemm(args), args.k / args.blocksize);
  });
  return status;
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_FEW_H_
