// SPDX-License-Identifier: MIT
// Nested quantization: an absmax, less its mean, quantized to 8 bits. The mean is summed in float64, in pieces of kSumPiece with
// kSumLanes lanes, the lanes of a piece and then the pieces in order, and rounded once. EXACT.
#include "gpu/encode_nearest.h"
#include "gpu/ops.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {
namespace {

constexpr int kThreads = kSectionThreads;

// sums[piece], or the mean at once if there is but one block of threads.
BNB_KERNEL void BNB_THREADS(kThreads) sum_pieces(const void *absmax, int64_t n, double *sums, void *mean) {
  BNB_SHARED double of_section[kSectionPieces];
  const int turn = int(thread_index()) % kPieceThreads;
  for (int64_t section = grid_index(); section * kSumSection < n; section += grid_count()) {
    const int64_t piece = section * kSectionPieces + thread_index() / kPieceThreads, first = piece * kSumPiece;
    ValueLanes lanes;
    add_piece<F32>(absmax, first, n - first < kSumPiece ? n : first + kSumPiece, turn, &lanes);
    const double sum = piece_sum(lanes);
    if (turn != 0) continue;
    if (!sums) {
      of_section[piece] = sum;
    } else if (first < n) {
      sums[piece] = sum;
    }
  }
  if (sums) return;
  barrier();
  if (thread_index() != 0) return;
  double sum = 0.0;
  for (int64_t piece = 0; piece * kSumPiece < n; ++piece) sum += of_section[piece];
  store<float>(mean, 0, n ? mean_of(sum, n) : 0.0f);
}

BNB_KERNEL void BNB_THREADS(kThreads) write_mean(const double *sums, int64_t pieces, int64_t n, void *mean) {
  BNB_SHARED double staged[kThreads];
  const double sum = ordered_sum(sums, pieces, staged);
  if (thread_index() == 0) store<float>(mean, 0, mean_of(sum, n));
}

// Five bytes an element: eight of them a thread, whose codes are one load and whose values are two stores.
constexpr int kDequantizeItems = 8;
constexpr int kDequantizeTile = kDequantizeItems * kThreads;

BNB_KERNEL void BNB_THREADS(kThreads) dequantize(AbsmaxView absmax, Divisor blocksize, int64_t n, void *out) {
  BNB_SHARED float value[256];
  for (int code = int(thread_index()); code < 256; code += kThreads) value[code] = load<float>(absmax.nested_code, code);
  const float offset = load<float>(absmax.nested_offset, 0);
  barrier();
  for (int64_t tile = grid_index(); tile * kDequantizeTile < n; tile += grid_count()) {
    const int64_t i = tile * kDequantizeTile + int64_t(thread_index()) * kDequantizeItems;
    if (i >= n) continue;
    int64_t block = blocksize.of(i), left = (block + 1) * blocksize.value - i;  // elements until the next block
    float scale = load<float>(absmax.nested_absmax, block), x[kDequantizeItems];
    uint32_t codes[kDequantizeItems / 4];
    load_words<kDequantizeItems / 4>(absmax.codes, i, n - i, codes);
    BNB_UNROLL
    for (int j = 0; j < kDequantizeItems; ++j) {
      if (j == left && i + j < n) {
        scale = load<float>(absmax.nested_absmax, ++block);
        left += blocksize.value;
      }
      const float product = value[codes[j / 4] >> (j % 4 * 8) & 0xFFu] * scale;
      x[j] = product + offset;
    }
    store_floats<F32, kDequantizeItems>(out, i, n - i, x);
  }
}

}  // namespace

bnb_status quantize_nested(const QuantizeNestedArgs &args, Queue queue) {
  const int64_t pieces = ceil_div(args.n, kSumPiece), sections = ceil_div(args.n, kSumSection);
  const Workspace sums(queue, sections > 1 ? size_t(pieces) * sizeof(double) : 0);
  if (sums.status() != BNB_OK) return sums.status();
  auto *of_pieces = static_cast<double *>(sections > 1 ? sums.data() : nullptr);
  const Grid grid{sections > 1 ? blocks_for(queue, sections, 8) : 1, kThreads};
  bnb_status status = launch(sum_pieces, grid, queue, args.absmax, args.n, of_pieces, args.offset);
  if (status == BNB_OK && sections > 1) {
    status = launch(write_mean, {1, kThreads}, queue, of_pieces, pieces, args.n, args.offset);
  }
  if (status != BNB_OK) return status;
  return quantize_blocks<F32, EncodeNearest>({args.absmax, args.n, args.blocksize, args.offset, args.out, args.nested_absmax},
                                             {args.code}, queue);
}

bnb_status dequantize_nested(const DequantizeNestedArgs &args, Queue queue) {
  const Grid grid{blocks_for(queue, ceil_div(args.n, kDequantizeTile), 8), kThreads};
  return launch(dequantize, grid, queue, args.absmax, Divisor(args.absmax.nested_blocksize), args.n, args.out);
}

}  // namespace bnb::gpu
