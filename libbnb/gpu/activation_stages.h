// SPDX-License-Identifier: MIT
// Activations on their way through shared memory: stages of kRows rows by 64 columns, filled in the background.
//
// A stage is made of pieces of 8 rows by 16 bytes, row behind row, as wgmma wants them. A piece is 16 bytes from where the next would
// be without a gap: eight lanes that load 16 bytes of two rows in four pieces meet all banks once.
#ifndef BNB_GPU_ACTIVATION_STAGES_H_
#define BNB_GPU_ACTIVATION_STAGES_H_

#include "gpu/gemm.h"
#include "gpu/matrix.h"
#include "gpu/weight_pairs.h"

namespace bnb::gpu {

constexpr int kStageColumns = 64;

// 16 bytes from any address, in the background if `aligned`.
BNB_DEVICE void copy_piece(void *shared, const void *global, bool take, bool aligned) {
  if (aligned) {
    copy_async(shared, global, take);
    return;
  }
  Items<uint32_t, 4> items{};
  if (take) load_words<4>(global, items.at);
  *static_cast<Items<uint32_t, 4> *>(shared) = items;
}

template <int kRows, int kThreads>
struct ActivationStage {
  static constexpr uint32_t kAcross = 128 + 16, kDown = kAcross * (kStageColumns / 8);
  static constexpr int kBytes = kRows / 8 * int(kDown);

  static BNB_DEVICE_METHOD int place(int row, int piece) {
    return row / 8 * int(kDown) + piece * int(kAcross) + row % 8 * 16;
  }

  // Columns k .. k + 63 of rows m0 and on; zeros for what is not there.
  static BNB_DEVICE_METHOD void fill(char *stage, const Gemm &args, int64_t m0, int k, bool aligned) {
    static_assert(kRows * 8 % kThreads == 0, "whole rounds of the threads");
    BNB_UNROLL
    for (int i = 0; i < kRows * 8 / kThreads; ++i) {
      const int at = i * kThreads + int(thread_index()), row = at / 8, piece = at % 8;
      const bool take = m0 + row < args.m && k + piece * 8 < args.k;
      const int64_t first = take ? (m0 + row) * args.a_stride + k + piece * 8 : 0;
      copy_piece(stage + place(row, piece), static_cast<const uint16_t *>(args.a) + first, take, aligned);
    }
  }
};

BNB_DEVICE bool aligned_activations(const Gemm &args) {
  return reinterpret_cast<uintptr_t>(args.a) % 16 == 0 && args.a_stride % 8 == 0;
}

// A tile of sums in shared memory, [kTileM][kTileN + kGap], to out.
template <typename Tag, int kTileN, int kTileM, int kGap, int kThreads>
BNB_DEVICE void write_tile(const float *tile, const Gemm &args, int64_t n0, int64_t m0) {
  for (int i = int(thread_index()); i < kTileN * kTileM; i += kThreads) {
    const int64_t m = m0 + i / kTileN, n = n0 + i % kTileN;
    if (m >= args.m) break;
    if (n >= args.n) continue;
    store_float<Tag>(args.out, m * args.out_stride + n, tile[i / kTileN * (kTileN + kGap) + i % kTileN] + bias_of(args, n));
  }
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_ACTIVATION_STAGES_H_
