// SPDX-License-Identifier: MIT
// Nested quantization: an absmax, less its mean, quantized to 8 bits. The mean is summed in float64, in pieces of kSumPiece with
// kSumLanes lanes, the lanes of a piece and then the pieces in order, and rounded once. EXACT.
#include "gpu/encode_nearest.h"
#include "gpu/ops.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = int(kSumLanes);
constexpr int kPiecesAtOnce = kThreads / kLanes;

// sums[piece], half a warp for each piece.
BNB_KERNEL void BNB_THREADS(kThreads) sum_pieces(const void *absmax, int64_t n, int64_t pieces, double *sums) {
  const int lane = int(thread_index()) % kLanes, first_lane = int(lane_index()) / kLanes * kLanes;
  for (int64_t round = grid_index(); round * kPiecesAtOnce < pieces; round += grid_count()) {
    const int64_t piece = round * kPiecesAtOnce + thread_index() / kLanes;
    const int64_t first = piece * kSumPiece, last = n - first < kSumPiece ? n : first + kSumPiece;
    double mine = 0.0, sum = 0.0;
    for (int64_t i = first + lane; i < last; i += kLanes) mine += double(load<float>(absmax, i));
    for (int i = 0; i < kLanes; ++i) sum += shuffle(mine, first_lane + i);
    if (lane == 0 && piece < pieces) sums[piece] = sum;
  }
}

BNB_KERNEL void BNB_THREADS(kThreads) write_mean(const double *sums, int64_t pieces, int64_t n, void *mean) {
  BNB_SHARED double staged[kThreads];
  const double sum = ordered_sum(sums, pieces, staged);
  if (thread_index() == 0) store<float>(mean, 0, n ? mean_of(sum, n) : 0.0f);
}

BNB_KERNEL void BNB_THREADS(kThreads) dequantize(AbsmaxView absmax, int64_t n, void *out) {
  for (int64_t i = int64_t(grid_index()) * kThreads + thread_index(); i < n; i += int64_t(grid_count()) * kThreads) {
    store<float>(out, i, absmax.at(i));
  }
}

}  // namespace

bnb_status quantize_nested(const QuantizeNestedArgs &args, Queue queue) {
  const int64_t pieces = ceil_div(args.n, kSumPiece);
  const Workspace sums(queue, size_t(pieces) * sizeof(double));
  if (sums.status() != BNB_OK) return sums.status();
  auto *of_pieces = static_cast<double *>(sums.data());
  bnb_status status = launch(sum_pieces, {blocks_for(queue, ceil_div(pieces, kPiecesAtOnce), 8), kThreads}, queue, args.absmax,
                             args.n, pieces, of_pieces);
  if (status == BNB_OK) status = launch(write_mean, {1, kThreads}, queue, of_pieces, pieces, args.n, args.offset);
  if (status != BNB_OK) return status;
  return quantize_blocks<F32, EncodeNearest>({args.absmax, args.n, args.blocksize, args.offset, args.out, args.nested_absmax},
                                             {args.code}, queue);
}

bnb_status dequantize_nested(const DequantizeNestedArgs &args, Queue queue) {
  return launch(dequantize, {blocks_for(queue, ceil_div(args.n, kThreads), 8), kThreads}, queue, args.absmax, args.n, args.out);
}

}  // namespace bnb::gpu
