// SPDX-License-Identifier: MIT
// Statistics of LLM.int8() by themselves, and quantization by given ones with the outliers in coordinate form. EXACT.
#include "gpu/int8_rows.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

// The sum over `threads` neighbouring threads, a power of two; all threads of the block take part. sums: shared, one per warp.
BNB_DEVICE uint32_t sum_among(uint32_t sum, int threads, uint32_t *sums) {
  for (int mask = 1; mask < threads && mask < kWarp; mask *= 2) sum += shuffle_xor(sum, mask);
  if (threads <= kWarp) return sum;
  if (lane_index() == 0) sums[warp_index()] = sum;
  barrier();
  const int warps = threads / kWarp, first = int(warp_index()) / warps * warps;
  sum = 0;
  for (int i = 0; i < warps; ++i) sum += sums[first + i];
  barrier();
  return sum;
}

BNB_KERNEL void BNB_THREADS(kRowThreads) measure_rows(Int8Args args, RowGrid shape, void *row_outliers) {
  using Vectors = RowVectors<F16>;
  BNB_SHARED uint32_t of_warps[kRowThreads / 32];
  const RowPlace<Vectors::kTogether> begin(shape);
  const int64_t first_of_block = begin.row - thread_index() / uint32_t(shape.threads);
  for (int64_t done = 0; first_of_block + done < args.rows; done += begin.row_step) {  // all threads of a block alike
    const int64_t row = begin.row + done;
    uint32_t largest = 0, outliers = 0;
    for (auto place = begin; row < args.rows && place.column < args.cols; place.column += kTileColumns) {
      Vectors x;
      x.load_row(args.a, row * args.cols, place, args.cols);
      const uint32_t bits = largest_inlier(x, args, place);
      if (bits > largest) largest = bits;
      BNB_UNROLL
      for (int i = 0; i < kRowItems; ++i) {
        outliers += fabsf(x.at(i / Vectors::kTogether, i % Vectors::kTogether)) >= args.limit ? 1 : 0;
      }
    }
    largest = largest_among(largest, shape.threads, of_warps);
    outliers = sum_among(outliers, shape.threads, of_warps);
    if (row >= args.rows || begin.column != 0) continue;
    store<float>(args.row_stats, row, formats::float_from_bits(largest));
    if (row_outliers) store<int32_t>(row_outliers, row + 1, int32_t(outliers));
  }
}

// The outliers of each row, by a warp: lanes have neighbouring columns, and find by a sum over the lanes before them where to write.
// Offsets that do not fit the outliers are an error on the CPU; here what does not fit is left out.
BNB_KERNEL void BNB_THREADS(kRowThreads) write_outliers(QuantizeInt8SparseArgs args, float limit) {
  constexpr int kTogether = 8;
  const int64_t warps = kRowThreads / kWarp;
  const int32_t lane = int32_t(lane_index()), room = load<int32_t>(args.row_offsets, args.rows);
  for (int64_t row = grid_index() * warps + warp_index(); row < args.rows; row += grid_count() * warps) {
    int32_t next = load<int32_t>(args.row_offsets, row), end = load<int32_t>(args.row_offsets, row + 1);
    if (end > room) end = room;
    if (next < 0) continue;
    for (int64_t first = 0; first < args.cols && next < end; first += kWarp * kTogether) {
      const int64_t col = first + lane * kTogether;
      const auto bits = load_up_to<uint16_t, kTogether>(args.a, row * args.cols + col, args.cols - col);
      uint32_t outliers = 0;
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) outliers |= uint32_t(fabsf(F16::widen(bits.at[j])) >= limit) << j;
      if (ballot(outliers != 0) == 0) continue;
      const int32_t count = int32_t(count_bits(outliers));
      int32_t up_to_here = count;
      for (int step = 1; step < kWarp; step *= 2) {
        const int32_t before = shuffle(up_to_here, lane >= step ? lane - step : lane);
        if (lane >= step) up_to_here += before;
      }
      int32_t at = next + up_to_here - count;
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        if (!(outliers >> j & 1u) || at >= end) continue;
        store<int32_t>(args.row_indices, at, int32_t(row));
        store<int32_t>(args.col_indices, at, int32_t(col + j));
        store<uint16_t>(args.values, at, bits.at[j]);
        ++at;
      }
      next += shuffle(up_to_here, kWarp - 1);
    }
  }
}

}  // namespace

bnb_status int8_stats(const Int8StatsArgs &args, Queue queue) {
  const size_t col_bytes = args.col_stats ? size_t(args.cols) * sizeof(float) : 0;
  const size_t own_cols = is_aligned(args.col_stats) ? 0 : col_bytes;  // atomics need aligned words
  const Workspace workspace(queue, own_cols);
  if (workspace.status() != BNB_OK) return workspace.status();
  Int8Args own{};
  own.dtype = DType::kF16;
  own.a = args.a;
  own.rows = args.rows;
  own.cols = own.row_stride = args.cols;
  own.limit = outlier_limit(args.threshold);
  own.row_stats = args.row_stats;
  own.col_stats = own_cols ? workspace.data() : args.col_stats;

  bnb_status status = BNB_OK;
  if (args.row_outliers) status = set_bytes(queue, args.row_outliers, 0, sizeof(int32_t));
  if (status == BNB_OK) status = set_bytes(queue, own.col_stats, 0, col_bytes);
  const int64_t tile = args.cols < kTileColumns ? args.cols : kTileColumns;  // threads go from tile to tile of a row
  const RowGrid shape = row_grid(queue, args.rows, tile, 8);
  if (status == BNB_OK) status = launch(measure_rows, shape.grid(), queue, own, shape, args.row_outliers);
  if (status == BNB_OK && args.col_stats) status = measure_column_stats<F16>(own, queue);
  if (status == BNB_OK && own_cols) status = copy_bytes(queue, args.col_stats, own.col_stats, own_cols);
  return status;
}

bnb_status quantize_int8_sparse(const QuantizeInt8SparseArgs &args, Queue queue) {
  if (args.rows == 0 || args.cols == 0) return BNB_OK;
  Int8Args own{};
  own.dtype = DType::kF16;
  own.a = args.a;
  own.rows = args.rows;
  own.cols = own.row_stride = args.cols;
  own.limit = outlier_limit(args.threshold);
  own.out = args.out_row;
  own.out_col = args.out_col;
  own.row_stats = const_cast<void *>(args.row_stats);
  own.col_stats = const_cast<void *>(args.col_stats);
  const RowGrid shape = row_grid(queue, args.rows, args.cols, 4);
  const bnb_status status = launch(encode_tiles<F16, true, true>, shape.grid(), queue, own, shape);
  if (status != BNB_OK || !args.row_offsets) return status;
  constexpr int kLeastWarp = 32;
  const int64_t blocks = ceil_div(args.rows, kRowThreads / kLeastWarp);
  return launch(write_outliers, {blocks_for(queue, blocks, 16), kRowThreads}, queue, args, own.limit);
}

}  // namespace bnb::gpu
