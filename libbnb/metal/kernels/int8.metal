// SPDX-License-Identifier: MIT
// LLM.int8(): rows of a matrix scaled to -127 .. 127, and back. Outliers set bits of a mask, from which a last kernel makes outlier_cols
// and zeros. EXACT.
#include "metal/kernels/floats.h"
#include "metal/kernels/int8_codes.h"

enum : int { kThreads = 256 };

// row_stats, codes and marks. A row is the work of a simdgroup, or, if it is wide, of the whole threadgroup; it is read a second time while
// it is in the cache.
template <typename Tag>
kernel void quantize_int8_rows(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                               device uchar *row_stats [[buffer(2)]], device uchar *out [[buffer(3)]],
                               device atomic_uint *marks [[buffer(4)]], uint index [[thread_position_in_threadgroup]],
                               uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                               uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint maxima[kThreads / kLanes];
  const bool wide = args.wide != 0;
  const long rows_at_once = wide ? 1 : kThreads / kLanes;
  const uint threads = wide ? uint(kThreads) : uint(kLanes), thread_of_row = wide ? index : lane;
  for (long first_row = long(group) * rows_at_once; first_row < args.rows; first_row += long(groups) * rows_at_once) {
    const long row = first_row + (wide ? 0 : long(simdgroup)), first = row * args.row_stride;
    const long cols = row < args.rows ? args.cols : 0;
    uint largest = 0;
    for (long col = thread_of_row; col < cols; col += threads) {
      const float x = load_float<Tag>(a, args.aligned_in != 0, first + col);
      if (is_outlier(args, x)) {
        if (args.marks != 0) atomic_fetch_or_explicit(marks + col / 32, 1u << uint(col % 32), memory_order_relaxed);
      } else {
        largest = max(largest, magnitude_bits(x));
      }
    }
    largest = simd_max(largest);
    if (wide) {
      if (lane == 0) maxima[simdgroup] = largest;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int i = 0; i < kThreads / kLanes; ++i) largest = max(largest, maxima[i]);
      threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next row writes them
    }
    if (row >= args.rows) continue;
    const float absmax = float_from_bits(largest);
    if (thread_of_row == 0) store_f32(row_stats, args.aligned_stats != 0, row, absmax);
    const Int8Scale scale = int8_scale(absmax);
    for (long col = thread_of_row; col < cols; col += threads) {
      const float x = load_float<Tag>(a, args.aligned_in != 0, first + col);
      out[row * args.cols + col] = uchar(int8_code(scale, is_outlier(args, x) ? 0.0f : x));
    }
  }
}

// maxima[col] = bits of the largest magnitude of a column, over the zeros that were there: a threadgroup has 256 columns and a slice
// of rows.
template <typename Tag>
kernel void measure_int8_cols(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                              device atomic_uint *maxima [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                              uint group [[threadgroup_position_in_grid]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  if (col >= args.cols) return;
  uint largest = 0;
  for (long row = slice; row < args.rows; row += args.slices) {
    const float x = load_float<Tag>(a, args.aligned_in != 0, row * args.row_stride + col);
    if (!is_outlier(args, x)) largest = max(largest, magnitude_bits(x));
  }
  if (largest != 0) atomic_fetch_max_explicit(maxima + col, largest, memory_order_relaxed);
}

template <typename Tag>
kernel void quantize_int8_cols(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                               device const uint *maxima [[buffer(2)]], device uchar *col_stats [[buffer(3)]],
                               device uchar *out_col [[buffer(4)]], uint index [[thread_position_in_threadgroup]],
                               uint group [[threadgroup_position_in_grid]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  if (col >= args.cols) return;
  const float absmax = float_from_bits(maxima[col]);
  if (slice == 0) store_f32(col_stats, args.aligned_stats != 0, col, absmax);
  const Int8Scale scale = int8_scale(absmax);
  for (long row = slice; row < args.rows; row += args.slices) {
    const float x = load_float<Tag>(a, args.aligned_in != 0, row * args.row_stride + col);
    out_col[row * args.cols + col] = uchar(int8_code(scale, is_outlier(args, x) ? 0.0f : x));
  }
}

// outlier_cols of the marks, and zeros in the columns that have one.
kernel void drop_int8_cols(constant Int8Args &args [[buffer(0)]], device const uint *marks [[buffer(1)]],
                           device uchar *outlier_cols [[buffer(2)]], device uchar *out [[buffer(3)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  if (col >= args.cols) return;
  const bool marked = (marks[col / 32] >> uint(col % 32) & 1u) != 0;
  if (slice == 0 && args.writes_cols != 0) outlier_cols[col] = uchar(marked ? 1 : 0);
  if (!marked) return;
  for (long row = slice; row < args.rows; row += args.slices) out[row * args.cols + col] = 0;
}

// All rows as if they were one: maxima[0], over the zero that was there ...
template <typename Tag>
kernel void measure_int8_tensor(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                                device atomic_uint *maxima [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                                uint group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  uint largest = 0;
  for (long row = slice; col < args.cols && row < args.rows; row += args.slices) {
    largest = max(largest, magnitude_bits(load_float<Tag>(a, args.aligned_in != 0, row * args.row_stride + col)));
  }
  largest = simd_max(largest);
  if (lane == 0 && largest != 0) atomic_fetch_max_explicit(maxima, largest, memory_order_relaxed);
}
// ... then row_stats[0] and codes.
template <typename Tag>
kernel void quantize_int8_tensor(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                                 device const uint *maxima [[buffer(2)]], device uchar *row_stats [[buffer(3)]],
                                 device uchar *out [[buffer(4)]], uint index [[thread_position_in_threadgroup]],
                                 uint group [[threadgroup_position_in_grid]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  const float absmax = float_from_bits(maxima[0]);
  if (group == 0 && index == 0) store_f32(row_stats, args.aligned_stats != 0, 0, absmax);
  if (col >= args.cols) return;
  const Int8Scale scale = int8_scale(absmax);
  for (long row = slice; row < args.rows; row += args.slices) {
    const float x = load_float<Tag>(a, args.aligned_in != 0, row * args.row_stride + col);
    out[row * args.cols + col] = uchar(int8_code(scale, x));
  }
}

template <typename Tag>
kernel void dequantize_int8(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                            device const uchar *row_stats [[buffer(2)]], device uchar *out [[buffer(3)]],
                            uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                            uint groups [[threadgroups_per_grid]]) {
  for (long row = group; row < args.rows; row += groups) {
    const float stats = load_f32(row_stats, args.aligned_stats != 0, row);
    for (long col = index; col < args.cols; col += kThreads) {
      const float code = float(as_type<char>(a[row * args.row_stride + col]));
      store_float<Tag>(out, args.aligned_out != 0, row * args.cols + col, ieee::multiply(ieee::multiply(code, stats), 1.0f / 127.0f));
    }
  }
}

template <typename Tag>
kernel void dequantize_int8_mm(constant Int8MmArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                               device const uchar *row_stats [[buffer(2)]], device const uchar *col_stats [[buffer(3)]],
                               device const uchar *bias [[buffer(4)]], device uchar *out [[buffer(5)]],
                               uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                               uint groups [[threadgroups_per_grid]]) {
  for (long row = group; row < args.rows; row += groups) {
    const float by_row = load_f32(row_stats, args.aligned_stats != 0, row);
    for (long col = index; col < args.cols; col += kThreads) {
      const long i = row * args.cols + col;
      const float scale = ieee::multiply(by_row, load_f32(col_stats, args.aligned_stats != 0, col));
      store_float<Tag>(out, args.aligned_out != 0, i, scaled_sum(int(load_32(a, args.aligned_in != 0, i)), scale, args.bias, bias, col));
    }
  }
}

BNB_FLOAT_KERNELS("quantize_int8_rows", quantize_int8_rows)
BNB_FLOAT_KERNELS("measure_int8_cols", measure_int8_cols)
BNB_FLOAT_KERNELS("quantize_int8_cols", quantize_int8_cols)
BNB_FLOAT_KERNELS("measure_int8_tensor", measure_int8_tensor)
BNB_FLOAT_KERNELS("quantize_int8_tensor", quantize_int8_tensor)
BNB_FLOAT_KERNELS("dequantize_int8", dequantize_int8)
BNB_FLOAT_KERNELS("dequantize_int8_mm", dequantize_int8_mm)
