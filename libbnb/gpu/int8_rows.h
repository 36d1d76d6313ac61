// SPDX-License-Identifier: MIT
// What LLM.int8() kernels share: how a matrix is divided among threads, and codes from numbers. EXACT.
//
// A thread has kRowItems columns, as vectors of 16 bytes that lie side by side with its neighbours', and goes down the rows with
// them: what belongs to columns stays in registers, and no division finds out where an element is.
#ifndef BNB_GPU_INT8_ROWS_H_
#define BNB_GPU_INT8_ROWS_H_

#include "gpu/launch.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {

constexpr int kRowItems = 16;
constexpr int kRowThreads = 256;                    // of a block
constexpr int kTileColumns = kRowThreads * kRowItems;

// A grid of tiles of kTileColumns columns by slices of rows. Rows of less than a tile share a block.
struct RowGrid {
  int threads;  // of a row: a power of two, or a whole block
  int64_t tiles, slices;

  Grid grid() const { return {tiles * slices, kRowThreads}; }
};

inline RowGrid row_grid(const Queue &queue, int64_t rows, int64_t cols, int blocks_per_multiprocessor) {
  RowGrid shape{1, ceil_div(cols, kTileColumns), 0};
  if (shape.tiles == 0) shape.tiles = 1;
  while (shape.threads < kRowThreads && shape.threads * kRowItems < cols) shape.threads *= 2;
  const int64_t fill = ceil_div(blocks_for(queue, INT64_MAX, blocks_per_multiprocessor), shape.tiles);
  const int64_t most = ceil_div(rows, kRowThreads / shape.threads);
  shape.slices = most < fill ? most : fill;
  return shape;
}

// Where the running thread is in it: rows `row`, row + row_step, ...; columns column + v * column_step + j for j < kTogether.
template <int kTogether>
struct RowPlace {
  static constexpr int kVectors = kRowItems / kTogether;
  int64_t row, row_step, column;
  int column_step;

  BNB_DEVICE_METHOD explicit RowPlace(const RowGrid &shape) {
    const uint32_t tiles = uint32_t(shape.tiles), threads = uint32_t(shape.threads);
    const int64_t rows_of_block = thread_count() / threads;
    row = int64_t(grid_index() / tiles) * rows_of_block + thread_index() / threads;
    row_step = shape.slices * rows_of_block;
    column = int64_t(grid_index() % tiles) * kTileColumns + int64_t(thread_index() % threads) * kTogether;
    column_step = shape.threads * kTogether;
  }
  BNB_DEVICE_METHOD int64_t column_of(int v) const { return column + int64_t(v) * column_step; }
};

// A thread's columns of one row, as they are stored.
template <typename Tag>
struct RowVectors {
  using T = typename Tag::Storage;
  static constexpr int kTogether = 16 / int(sizeof(T)), kVectors = kRowItems / kTogether;
  Items<T, kTogether> vectors[kVectors];

  // row_begin: the row's first element in `a`.
  BNB_DEVICE_METHOD void load_row(const void *a, int64_t row_begin, const RowPlace<kTogether> &place, int64_t cols) {
    BNB_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      vectors[v] = load_up_to<T, kTogether>(a, row_begin + place.column_of(v), cols - place.column_of(v));
    }
  }
  BNB_DEVICE_METHOD float at(int v, int j) const { return Tag::widen(vectors[v].at[j]); }
};

// What |x| has to reach for x to be an outlier: a NaN, which nothing reaches, if there are none.
inline float outlier_limit(float threshold) { return threshold > 0.0f ? threshold : __builtin_nanf(""); }

BNB_DEVICE int8_t round_code(float scaled) { return int8_t(int(rintf(scaled))); }

// rne(x * (127 / absmax)). kSaturate: absmax is a caller's and may be too small, or negative, and x may be anything.
template <bool kSaturate>
class Int8Encoder {
 public:
  BNB_DEVICE_METHOD explicit Int8Encoder(float absmax) : absmax_(absmax), scale_(127.0f / absmax) {}

  // Neither zero, infinite or NaN, nor so tiny that 127 / absmax overflows: nearly always.
  BNB_DEVICE_METHOD bool ordinary() const { return scale_ > 0.0f && scale_ < __builtin_inff(); }
  BNB_DEVICE_METHOD float scale() const { return scale_; }
  BNB_DEVICE_METHOD static int8_t scaled(float x, float scale) { return bounded(x * scale); }

  BNB_DEVICE_METHOD int8_t operator()(float x) const {
    if (ordinary()) return scaled(x, scale_);
    if (!(absmax_ > 0.0f)) return 0;
    if (absmax_ == __builtin_inff()) return fabsf(x) == absmax_ ? (x > 0.0f ? int8_t(127) : int8_t(-127)) : int8_t(0);
    return bounded(x / absmax_ * 127.0f);
  }

 private:
  BNB_DEVICE_METHOD static int8_t bounded(float scaled) {
    if (!kSaturate) return round_code(scaled);
    if (scaled != scaled) return 0;
    return round_code(scaled > 127.0f ? 127.0f : scaled < -127.0f ? -127.0f : scaled);
  }
  float absmax_, scale_;
};

// 127 / absmax of a thread's columns. Where that is not ordinary it is 0, which gives the right code for columns of zeros;
// others that are not ordinary are `rare`.
template <typename Tag, bool kSaturate>
struct ColumnScales {
  using Vectors = RowVectors<Tag>;
  float scales[kRowItems];
  bool rare = false;

  BNB_DEVICE_METHOD void load_scales(const void *col_stats, const RowPlace<Vectors::kTogether> &place, int64_t cols) {
    BNB_UNROLL
    for (int v = 0; v < Vectors::kVectors; ++v) {
      BNB_UNROLL
      for (int j = 0; j < Vectors::kTogether; ++j) {
        const int64_t col = place.column_of(v) + j;
        const float absmax = col < cols ? load<float>(col_stats, col) : 0.0f;
        const Int8Encoder<kSaturate> encoder(absmax);
        scales[v * Vectors::kTogether + j] = encoder.ordinary() ? encoder.scale() : 0.0f;
        rare = rare || (!encoder.ordinary() && absmax != 0.0f);
      }
    }
  }
};

struct Int8Args : QuantizeInt8Args {
  float limit;      // see outlier_limit
  uint32_t *marks;  // a bit for each column, 1 for those with an outlier; NULL: nobody wants them
};

BNB_DEVICE float inlier(float x, float limit) { return fabsf(x) >= limit ? 0.0f : x; }

// Most outliers lie in a few columns, whose marks are there already.
BNB_DEVICE void mark_column(uint32_t *marks, int64_t col) {
  const uint32_t bit = uint32_t(1) << col % 32;
  if (!(atomic_load(marks + col / 32) & bit)) atomic_or(marks + col / 32, bit);
}

// Bits of the largest inlier, and marks.
template <typename Tag, typename Place>
BNB_DEVICE uint32_t largest_inlier(const RowVectors<Tag> &x, const Int8Args &args, const Place &place) {
  constexpr int kTogether = RowVectors<Tag>::kTogether;
  uint32_t largest = 0, outliers = 0;
  BNB_UNROLL
  for (int i = 0; i < kRowItems; ++i) {
    const float value = x.at(i / kTogether, i % kTogether);
    const uint32_t bits = magnitude_bits(inlier(value, args.limit));
    if (bits > largest) largest = bits;
    outliers |= uint32_t(fabsf(value) >= args.limit) << i;
  }
  if (!args.marks) return largest;
  for (int i = 0; outliers; ++i, outliers >>= 1) {
    if (outliers & 1u) mark_column(args.marks, place.column_of(i / kTogether) + i % kTogether);
  }
  return largest;
}

// The codes of a thread's part of a row by the statistics of the row.
template <typename Tag, bool kSaturate, typename Place>
BNB_DEVICE void write_codes_by_row(const RowVectors<Tag> &x, const Int8Args &args, const Place &place, int64_t row, float absmax) {
  using Vectors = RowVectors<Tag>;
  const Int8Encoder<kSaturate> encode(absmax);
  BNB_UNROLL
  for (int v = 0; v < Vectors::kVectors; ++v) {
    const int64_t col = place.column_of(v);
    Items<int8_t, Vectors::kTogether> codes;
    BNB_UNROLL
    for (int j = 0; j < Vectors::kTogether; ++j) codes.at[j] = encode(inlier(x.at(v, j), args.limit));
    store_up_to<int8_t, Vectors::kTogether>(args.out, row * args.cols + col, args.cols - col, codes);
  }
}

// And by those of its columns.
template <typename Tag, bool kSaturate, typename Place>
BNB_DEVICE void write_codes_by_column(const RowVectors<Tag> &x, const Int8Args &args, const Place &place, int64_t row,
                                      const ColumnScales<Tag, kSaturate> &columns) {
  using Vectors = RowVectors<Tag>;
  BNB_UNROLL
  for (int v = 0; v < Vectors::kVectors; ++v) {
    const int64_t col = place.column_of(v);
    Items<int8_t, Vectors::kTogether> codes;
    BNB_UNROLL
    for (int j = 0; j < Vectors::kTogether; ++j) {
      const float value = inlier(x.at(v, j), args.limit);
      if (!columns.rare) {
        codes.at[j] = Int8Encoder<kSaturate>::scaled(value, columns.scales[v * Vectors::kTogether + j]);
      } else {
        codes.at[j] = col + j < args.cols ? Int8Encoder<kSaturate>(load<float>(args.col_stats, col + j))(value) : int8_t(0);
      }
    }
    store_up_to<int8_t, Vectors::kTogether>(args.out_col, row * args.cols + col, args.cols - col, codes);
  }
}

// Rows whose statistics are there already, in tiles; by columns, too, if kColumns.
template <typename Tag, bool kColumns, bool kSaturate>
BNB_KERNEL void BNB_THREADS(kRowThreads) encode_tiles(Int8Args args, RowGrid shape) {
  const RowPlace<RowVectors<Tag>::kTogether> place(shape);
  ColumnScales<Tag, kSaturate> columns;
  if (kColumns) columns.load_scales(args.col_stats, place, args.cols);
  for (int64_t row = place.row; row < args.rows; row += place.row_step) {
    RowVectors<Tag> x;
    x.load_row(args.a, row * args.row_stride, place, args.cols);
    write_codes_by_row<Tag, kSaturate>(x, args, place, row, load<float>(args.row_stats, row));
    if (kColumns) write_codes_by_column<Tag, kSaturate>(x, args, place, row, columns);
  }
}

// Statistics of columns: a block goes down a slice of rows with 32 neighbouring vectors of columns and kDown rows at a time; the
// slices meet in col_stats, which holds zeros at first, as bits.
constexpr int kAcross = 32, kDown = kRowThreads / kAcross;

template <typename Tag>
BNB_KERNEL void BNB_THREADS(kRowThreads) measure_columns(Int8Args args, int64_t strips, int64_t slices) {
  using T = typename Tag::Storage;
  constexpr int kTogether = 16 / int(sizeof(T)), kAhead = 4, kStrip = kAcross * kTogether;
  BNB_SHARED uint32_t maxima[kDown][kStrip];
  const int64_t strip = grid_index() % uint32_t(strips), slice = grid_index() / uint32_t(strips);
  const int across = int(thread_index()) % kAcross, down = int(thread_index()) / kAcross;
  const int64_t col = strip * kStrip + across * kTogether;
  uint32_t largest[kTogether] = {};
  const int64_t step = slices * kDown;
  for (int64_t row = slice * kDown + down; row < args.rows; row += kAhead * step) {
    Items<T, kTogether> x[kAhead];
    BNB_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const bool there = row + i * step < args.rows;
      x[i] = load_up_to<T, kTogether>(args.a, (row + i * step) * args.row_stride + col, there ? args.cols - col : 0);
    }
    BNB_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        const uint32_t bits = magnitude_bits(inlier(Tag::widen(x[i].at[j]), args.limit));
        if (bits > largest[j]) largest[j] = bits;
      }
    }
  }
  BNB_UNROLL
  for (int j = 0; j < kTogether; ++j) maxima[down][across * kTogether + j] = largest[j];
  barrier();
  for (int i = int(thread_index()); i < kStrip && strip * kStrip + i < args.cols; i += kRowThreads) {
    uint32_t most = 0;
    for (int d = 0; d < kDown; ++d) most = maxima[d][i] > most ? maxima[d][i] : most;
    if (most) atomic_max(static_cast<uint32_t *>(args.col_stats) + strip * kStrip + i, most);
  }
}

// args.col_stats: aligned, zeros.
template <typename Tag>
bnb_status measure_column_stats(const Int8Args &args, const Queue &queue) {
  if (args.rows == 0 || args.cols == 0) return BNB_OK;
  const int64_t strips = ceil_div(args.cols, kAcross * 16 / int64_t(sizeof(typename Tag::Storage)));
  const int64_t fill = ceil_div(blocks_for(queue, INT64_MAX, 8), strips), most = ceil_div(args.rows, kDown);
  const int64_t slices = most < fill ? most : fill;
  return launch(measure_columns<Tag>, {strips * slices, kRowThreads}, queue, args, strips, slices);
}

inline bool is_aligned(const void *p) { return reinterpret_cast<uintptr_t>(p) % sizeof(float) == 0; }

}  // namespace bnb::gpu

#endif  // BNB_GPU_INT8_ROWS_H_
