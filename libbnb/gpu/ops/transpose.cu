// SPDX-License-Identifier: MIT
// What bitsandbytes' int8 products need beside the product: operands the other way round, sums as int8. EXACT.
#include "gpu/launch.h"
#include "gpu/ops.h"
#include "gpu/vectors.h"

namespace bnb::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 64;       // of a tile, which a block turns in shared memory
constexpr int kTogether = 16;   // bytes of a thread
constexpr int kPitch = kSide + 4;  // neighbouring rows begin in other banks

BNB_KERNEL void BNB_THREADS(kThreads) transpose(TransposeInt8Args args, Divisor tiles_across, int64_t tiles) {
  BNB_SHARED uint8_t tile[kSide][kPitch];
  const int line = int(thread_index()) / (kSide / kTogether), first = int(thread_index()) % (kSide / kTogether) * kTogether;
  for (int64_t i = grid_index(); i < tiles; i += grid_count()) {
    const int64_t down = tiles_across.of(i), row = down * kSide, col = (i - down * tiles_across.value) * kSide;
    uint8_t bytes[kTogether];
    if (row + line < args.rows && col + first < args.cols) {
      load_bytes<kTogether>(reinterpret_cast<const uint8_t *>(args.a), (row + line) * args.a_stride + col + first,
                            args.cols - col - first, bytes);
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) tile[line][first + j] = bytes[j];
    }
    barrier();
    if (col + line < args.cols && row + first < args.rows) {
      const int64_t count = args.rows - row - first;
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) bytes[j] = j < count ? tile[first + j][line] : uint8_t(0);
      store_bytes<kTogether>(reinterpret_cast<uint8_t *>(args.out), (col + line) * args.rows + row + first, count, bytes);
    }
    barrier();
  }
}

BNB_DEVICE int8_t saturated(float x) {
  if (!(x == x)) return 0;
  return int8_t(rintf(x > 127.0f ? 127.0f : x < -128.0f ? -128.0f : x));
}

BNB_KERNEL void BNB_THREADS(kThreads) saturate(SaturateInt8Args args, Divisor pieces_a_row, int64_t pieces) {
  for (int64_t i = int64_t(grid_index()) * kThreads + thread_index(); i < pieces; i += int64_t(grid_count()) * kThreads) {
    const int64_t row = pieces_a_row.of(i), col = (i - row * pieces_a_row.value) * kTogether, count = args.cols - col;
    uint8_t codes[kTogether];
    BNB_UNROLL
    for (int j = 0; j < kTogether; j += 4) {
      Items<int32_t, 4> sums{};
      if (j + 4 <= count) {
        sums = load_items<int32_t, 4>(args.a, row * args.cols + col + j);
      } else {
        BNB_UNROLL
        for (int k = 0; k < 4; ++k) sums.at[k] = j + k < count ? args.a[row * args.cols + col + j + k] : 0;
      }
      BNB_UNROLL
      for (int k = 0; k < 4; ++k) {
        const float sum = float(sums.at[k]);
        codes[j + k] = uint8_t(saturated(args.scales && j + k < count ? sum * load<float>(args.scales, col + j + k) : sum));
      }
    }
    store_bytes<kTogether>(reinterpret_cast<uint8_t *>(args.out), row * args.out_stride + col, count, codes);
  }
}

}  // namespace

bnb_status transpose_int8(const TransposeInt8Args &args, Queue queue) {
  const int64_t across = ceil_div(args.cols, kSide), tiles = across * ceil_div(args.rows, kSide);
  if (tiles == 0) return BNB_OK;
  return launch(transpose, {blocks_for(queue, tiles, 8), kThreads}, queue, args, Divisor(across), tiles);
}

bnb_status saturate_int8(const SaturateInt8Args &args, Queue queue) {
  const int64_t across = ceil_div(args.cols, kTogether), pieces = across * args.rows;
  if (pieces == 0) return BNB_OK;
  return launch(saturate, {blocks_for(queue, ceil_div(pieces, kThreads), 8), kThreads}, queue, args, Divisor(across), pieces);
}

}  // namespace bnb::gpu
