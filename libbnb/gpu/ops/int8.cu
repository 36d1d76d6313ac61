// SPDX-License-Identifier: MIT
// LLM.int8() quantization and the ways back. EXACT.
//
// Rows of up to 16384 columns are read once: they stay in the registers of a block (or of a part of one) from their maximum to
// their codes. Wider ones are cut into tiles and read twice. Statistics of columns are one more read in front. Outliers mark their
// columns in a bit mask; once all rows are done, a last kernel turns the marks into bytes and those columns into zeros.
#include "gpu/int8_rows.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

// Threads of the largest block; with what belongs to the columns in registers, too, half of that.
constexpr int widest_block(bool columns) { return columns ? 512 : 1024; }
constexpr int64_t widest(bool columns) { return int64_t(widest_block(columns)) * kRowItems; }

template <typename Tag, bool kColumns>
BNB_KERNEL void BNB_THREADS(widest_block(kColumns)) quantize_rows(Int8Args args, RowGrid shape) {
  BNB_SHARED uint32_t maxima[widest_block(kColumns) / 32];
  const RowPlace<RowVectors<Tag>::kTogether> place(shape);
  ColumnScales<Tag, false> columns;
  if (kColumns) columns.load_scales(args.col_stats, place, args.cols);
  const int64_t first_of_block = place.row - thread_index() / uint32_t(shape.threads);
  for (int64_t done = 0; first_of_block + done < args.rows; done += place.row_step) {  // all threads of a block alike
    const int64_t row = place.row + done;
    RowVectors<Tag> x;
    x.load_row(args.a, row * args.row_stride, place, row < args.rows ? args.cols : 0);
    const uint32_t largest = largest_among(largest_inlier(x, args, place), shape.threads, maxima);
    if (row >= args.rows) continue;
    const float absmax = formats::float_from_bits(largest);
    if (place.column == 0) store<float>(args.row_stats, row, absmax);
    write_codes_by_row<Tag, false>(x, args, place, row, absmax);
    if (kColumns) write_codes_by_column<Tag, false>(x, args, place, row, columns);
  }
}

// row_stats, zeros at first, as bits.
template <typename Tag>
BNB_KERNEL void BNB_THREADS(kRowThreads) measure_tiles(Int8Args args, RowGrid shape) {
  const RowPlace<RowVectors<Tag>::kTogether> place(shape);
  for (int64_t row = place.row; row < args.rows; row += place.row_step) {
    RowVectors<Tag> x;
    x.load_row(args.a, row * args.row_stride, place, args.cols);
    const uint32_t largest = largest_among(largest_inlier(x, args, place), kWarp, nullptr);
    if (lane_index() == 0) atomic_max(static_cast<uint32_t *>(args.row_stats) + row, largest);
  }
}

template <typename Tag, bool kColumns>
bnb_status quantize_narrow(const Int8Args &args, const Queue &queue) {
  RowGrid shape = row_grid(queue, args.rows, args.cols, kColumns ? 4 : 64);
  Grid grid = shape.grid();
  if (args.cols > kTileColumns) {  // a row has the block to itself
    constexpr int kStep = 64;
    shape.threads = grid.threads = int(ceil_div(args.cols, kRowItems * kStep)) * kStep;
    shape.tiles = 1;
    shape.slices = grid.blocks = blocks_for(queue, args.rows, kColumns ? 1024 / grid.threads : 16);
  }
  return launch(quantize_rows<Tag, kColumns>, grid, queue, args, shape);
}

template <typename Tag, bool kColumns>
bnb_status quantize_wide(const Int8Args &args, const Queue &queue) {
  const RowGrid shape = row_grid(queue, args.rows, args.cols, 8);
  const bnb_status status = launch(measure_tiles<Tag>, shape.grid(), queue, args, shape);
  if (status != BNB_OK) return status;
  return launch(encode_tiles<Tag, kColumns, false>, shape.grid(), queue, args, shape);
}

// From marks to outlier_cols and zeros. A thread has 16 columns; most find no mark and are done.
BNB_KERNEL void BNB_THREADS(kRowThreads) drop_columns(Int8Args args, int64_t tiles, int64_t slices) {
  constexpr int kWords = kRowItems / 4;
  const int64_t slice = grid_index() / uint32_t(tiles);
  const int64_t col = (int64_t(grid_index() % uint32_t(tiles)) * kRowThreads + thread_index()) * kRowItems, left = args.cols - col;
  if (left <= 0) return;
  const uint32_t marks = args.marks[col / 32] >> col % 32;
  Items<uint8_t, kRowItems> marked;
  Items<uint32_t, kWords> keep{};
  BNB_UNROLL
  for (int j = 0; j < kRowItems; ++j) {
    marked.at[j] = uint8_t(marks >> j & 1u);
    keep.at[j / 4] |= (marks >> j & 1u ? 0u : 0xFFu) << j % 4 * 8;
  }
  if (slice == 0) store_up_to<uint8_t, kRowItems>(args.outlier_cols, col, left, marked);
  if ((marks & 0xFFFFu) == 0) return;
  for (int64_t row = slice; row < args.rows; row += slices) {
    int8_t *out = args.out + row * args.cols + col;
    if (left >= kRowItems) {
      Items<uint32_t, kWords> codes = load_items<uint32_t, kWords>(out, 0);
      BNB_UNROLL
      for (int j = 0; j < kWords; ++j) codes.at[j] &= keep.at[j];
      store_items<uint32_t, kWords>(out, 0, codes);
      continue;
    }
    for (int j = 0; j < left; ++j) {
      if (marks >> j & 1u) out[j] = 0;
    }
  }
}

bnb_status drop_marked(const Int8Args &args, const Queue &queue) {
  constexpr int64_t kRowsOfSlice = 16;
  const int64_t tiles = ceil_div(args.cols, kTileColumns), rows = ceil_div(args.rows, kRowsOfSlice);
  const int64_t fill = ceil_div(blocks_for(queue, INT64_MAX, 16), tiles > 0 ? tiles : 1);
  const int64_t slices = rows < 1 ? 1 : rows < fill ? rows : fill;
  return launch(drop_columns, {tiles * slices, kRowThreads}, queue, args, tiles, slices);
}

template <typename Tag, bool kColumns>
bnb_status quantize(const Int8Args &args, const Queue &queue) {
  if (kColumns) {
    const bnb_status status = measure_column_stats<Tag>(args, queue);
    if (status != BNB_OK) return status;
  }
  return args.cols <= widest(kColumns) ? quantize_narrow<Tag, kColumns>(args, queue) : quantize_wide<Tag, kColumns>(args, queue);
}

template <typename Tag>
BNB_KERNEL void BNB_THREADS(kRowThreads) dequantize(DequantizeInt8Args args, RowGrid shape) {
  using T = typename Tag::Storage;
  constexpr int kTogether = 16 / int(sizeof(T));
  const RowPlace<kTogether> place(shape);
  for (int64_t row = place.row; row < args.rows; row += place.row_step) {
    const float stats = load<float>(args.row_stats, row);
    Items<int8_t, kTogether> codes[place.kVectors];
    BNB_UNROLL
    for (int v = 0; v < place.kVectors; ++v) {
      const int64_t col = place.column_of(v);
      codes[v] = load_up_to<int8_t, kTogether>(args.a, row * args.row_stride + col, args.cols - col);
    }
    BNB_UNROLL
    for (int v = 0; v < place.kVectors; ++v) {
      const int64_t col = place.column_of(v);
      Items<T, kTogether> out;
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) out.at[j] = Tag::narrow(float(codes[v].at[j]) * stats * (1.0f / 127.0f));
      store_up_to<T, kTogether>(args.out, row * args.cols + col, args.cols - col, out);
    }
  }
}

BNB_DEVICE float load_any_float(DType dtype, const void *array, int64_t i) {
  if (dtype == DType::kF32) return load<float>(array, i);
  return dtype == DType::kF16 ? load_float<F16>(array, i) : load_float<BF16>(array, i);
}

template <typename Tag>
BNB_KERNEL void BNB_THREADS(kRowThreads) dequantize_mm(DequantizeInt8MmArgs args, RowGrid shape) {
  using T = typename Tag::Storage;
  constexpr int kTogether = 4;
  const RowPlace<kTogether> place(shape);
  float stats[kRowItems], bias[kRowItems];
  BNB_UNROLL
  for (int i = 0; i < kRowItems; ++i) {
    const int64_t col = place.column_of(i / kTogether) + i % kTogether;
    stats[i] = col < args.cols ? load<float>(args.col_stats, col) : 0.0f;
    bias[i] = args.bias && col < args.cols ? load_any_float(args.bias_dtype, args.bias, col) : 0.0f;
  }
  for (int64_t row = place.row; row < args.rows; row += place.row_step) {
    const float row_stats = load<float>(args.row_stats, row);
    Items<int32_t, kTogether> sums[place.kVectors];
    BNB_UNROLL
    for (int v = 0; v < place.kVectors; ++v) {
      const int64_t col = place.column_of(v);
      sums[v] = load_up_to<int32_t, kTogether>(args.a, row * args.cols + col, args.cols - col);
    }
    BNB_UNROLL
    for (int v = 0; v < place.kVectors; ++v) {
      const int64_t col = place.column_of(v);
      Items<T, kTogether> out;
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        float value = float(sums[v].at[j]) * (row_stats * stats[v * kTogether + j]) * (1.0f / (127.0f * 127.0f));
        if (args.bias) value += bias[v * kTogether + j];  // adding 0 would make +0 of -0
        out.at[j] = Tag::narrow(value);
      }
      store_up_to<T, kTogether>(args.out, row * args.cols + col, args.cols - col, out);
    }
  }
}

}  // namespace

bnb_status quantize_int8(const QuantizeInt8Args &args, Queue queue) {
  const bool marked = args.outlier_cols && args.threshold > 0.0f, wide = args.cols > widest(args.col_stats != nullptr);
  const size_t mark_bytes = marked ? size_t(ceil_div(args.cols, 32)) * sizeof(uint32_t) : 0;
  const size_t row_bytes = size_t(args.rows) * sizeof(float), col_bytes = args.col_stats ? size_t(args.cols) * sizeof(float) : 0;
  // Atomics need aligned words.
  const size_t own_rows = wide && !is_aligned(args.row_stats) ? row_bytes : 0, own_cols = is_aligned(args.col_stats) ? 0 : col_bytes;
  const Workspace workspace(queue, mark_bytes + own_rows + own_cols);
  if (workspace.status() != BNB_OK) return workspace.status();
  char *const space = static_cast<char *>(workspace.data());

  Int8Args own{};
  static_cast<QuantizeInt8Args &>(own) = args;
  own.limit = outlier_limit(args.threshold);
  own.marks = marked ? reinterpret_cast<uint32_t *>(space) : nullptr;
  if (own_rows) own.row_stats = space + mark_bytes;
  if (own_cols) own.col_stats = space + mark_bytes + own_rows;

  bnb_status status = set_bytes(queue, space, 0, mark_bytes);
  if (status == BNB_OK && args.outlier_cols && !marked) status = set_bytes(queue, args.outlier_cols, 0, size_t(args.cols));
  if (status == BNB_OK && wide) status = set_bytes(queue, own.row_stats, 0, row_bytes);
  if (status == BNB_OK) status = set_bytes(queue, own.col_stats, 0, col_bytes);
  if (status == BNB_OK) {
    with_float(args.dtype, [&](auto tag) {
      using Tag = decltype(tag);
      status = args.col_stats ? quantize<Tag, true>(own, queue) : quantize<Tag, false>(own, queue);
    });
  }
  if (status == BNB_OK && marked) status = drop_marked(own, queue);
  if (status == BNB_OK && own_rows) status = copy_bytes(queue, args.row_stats, own.row_stats, own_rows);
  if (status == BNB_OK && own_cols) status = copy_bytes(queue, args.col_stats, own.col_stats, own_cols);
  return status;
}

bnb_status dequantize_int8(const DequantizeInt8Args &args, Queue queue) {
  bnb_status status = BNB_OK;
  if (args.rows == 0 || args.cols == 0) return status;
  const RowGrid shape = row_grid(queue, args.rows, args.cols, 32);
  with_float(args.dtype, [&](auto tag) { status = launch(dequantize<decltype(tag)>, shape.grid(), queue, args, shape); });
  return status;
}

bnb_status dequantize_int8_mm(const DequantizeInt8MmArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  if (args.rows == 0 || args.cols == 0) return status;
  const RowGrid shape = row_grid(queue, args.rows, args.cols, 16);
  with_float(args.dtype, [&](auto tag) { status = launch(dequantize_mm<decltype(tag)>, shape.grid(), queue, args, shape); });
  return status;
}

}  // namespace bnb::gpu
