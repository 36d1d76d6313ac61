// SPDX-License-Identifier: MIT
// Statistics of LLM.int8() by themselves, and quantization by given ones with the outliers in coordinate form; of fp16. EXACT.
#include "metal/kernels/floats.h"
#include "metal/kernels/int8_codes.h"

enum : int { kThreads = 256 };

// row_stats, and in row_outliers[row + 1] how many outliers there are. A row is the work of a simdgroup, or, if it is wide, of the whole
// threadgroup.
kernel void measure_int8_rows(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                              device uchar *row_stats [[buffer(2)]], device uchar *row_outliers [[buffer(3)]],
                              uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                              uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint maxima[kThreads / kLanes];
  threadgroup uint counts[kThreads / kLanes];
  const bool wide = args.wide != 0, counts_them = args.marks != 0;
  if (counts_them && group == 0 && index == 0) store_32(row_outliers, false, 0, 0u);
  const long rows_at_once = wide ? 1 : kThreads / kLanes;
  const uint threads = wide ? uint(kThreads) : uint(kLanes), thread_of_row = wide ? index : lane;
  for (long first_row = long(group) * rows_at_once; first_row < args.rows; first_row += long(groups) * rows_at_once) {
    const long row = first_row + (wide ? 0 : long(simdgroup)), first = row * args.row_stride;
    const long cols = row < args.rows ? args.cols : 0;
    uint largest = 0, outliers = 0;
    for (long col = thread_of_row; col < cols; col += threads) {
      const float x = load_float<F16>(a, args.aligned_in != 0, first + col);
      if (is_outlier(args, x)) {
        ++outliers;
      } else {
        largest = max(largest, magnitude_bits(x));
      }
    }
    largest = simd_max(largest);
    outliers = simd_sum(outliers);
    if (wide) {
      if (lane == 0) {
        maxima[simdgroup] = largest;
        counts[simdgroup] = outliers;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      largest = outliers = 0;
      for (int i = 0; i < kThreads / kLanes; ++i) {
        largest = max(largest, maxima[i]);
        outliers += counts[i];
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next row writes them
    }
    if (row >= args.rows || thread_of_row != 0) continue;
    store_f32(row_stats, args.aligned_stats != 0, row, float_from_bits(largest));
    if (counts_them) store_32(row_outliers, false, row + 1, outliers);
  }
}

// The bits of maxima as numbers at any address.
kernel void store_int8_maxima(constant Int8Args &args [[buffer(0)]], device const uint *maxima [[buffer(1)]],
                              device uchar *col_stats [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                              uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  for (long col = long(group) * kThreads + index; col < args.cols; col += long(groups) * kThreads) {
    store_32(col_stats, args.aligned_stats != 0, col, maxima[col]);
  }
}

// Codes by the statistics of rows and by those of columns, which need not be a's: what does not fit saturates. A threadgroup has 256
// columns and a slice of rows.
kernel void encode_int8(constant Int8Args &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                        device const uchar *row_stats [[buffer(2)]], device const uchar *col_stats [[buffer(3)]],
                        device uchar *out_row [[buffer(4)]], device uchar *out_col [[buffer(5)]],
                        uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
  const long strip = long(group) % args.strips, slice = long(group) / args.strips, col = strip * kThreads + long(index);
  if (col >= args.cols) return;
  const Int8Scale by_col = int8_scale(load_f32(col_stats, args.aligned_stats != 0, col));
  for (long row = slice; row < args.rows; row += args.slices) {
    const long i = row * args.cols + col;
    const float element = load_float<F16>(a, args.aligned_in != 0, i), x = is_outlier(args, element) ? 0.0f : element;
    const Int8Scale by_row = int8_scale(load_f32(row_stats, args.aligned_stats != 0, row));
    out_row[i] = uchar(saturated_code(scaled_to_int8(by_row, x), -127.0f));
    out_col[i] = uchar(saturated_code(scaled_to_int8(by_col, x), -127.0f));
  }
}

// The outliers of each row, by a simdgroup: lanes have neighbouring columns and find by votes where to write. Offsets that do not fit the
// outliers are an error on the CPU; here what does not fit is left out.
kernel void write_outliers(constant OutlierArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                           device const uchar *row_offsets [[buffer(2)]], device uchar *row_indices [[buffer(3)]],
                           device uchar *col_indices [[buffer(4)]], device uchar *values [[buffer(5)]],
                           uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                           uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  enum : int { kRowsAtOnce = kThreads / kLanes };
  constant Int8Args &matrix = args.matrix;
  const bool aligned = args.aligned_offsets != 0;
  const int room = int(load_32(row_offsets, aligned, matrix.rows));
  const uint lower_lanes = (1u << lane) - 1u;
  for (long row = long(group) * kRowsAtOnce + simdgroup; row < matrix.rows; row += long(groups) * kRowsAtOnce) {
    int next = int(load_32(row_offsets, aligned, row));
    const int end = min(int(load_32(row_offsets, aligned, row + 1)), room);
    if (next < 0) continue;
    for (long first = 0; first < matrix.cols && next < end; first += kLanes) {
      const long col = first + lane;
      const uint bits = col < matrix.cols ? load_16(a, matrix.aligned_in != 0, row * matrix.cols + col) : 0u;
      const bool outlier = is_outlier(matrix, F16::widen(bits));
      const uint votes = ballot(outlier);
      const int at = next + int(popcount(votes & lower_lanes));
      if (outlier && at < end) {
        store_32(row_indices, args.aligned_indices != 0, at, uint(row));
        store_32(col_indices, args.aligned_indices != 0, at, uint(col));
        store_16(values, args.aligned_values != 0, at, bits);
      }
      next += int(popcount(votes));
    }
  }
}
