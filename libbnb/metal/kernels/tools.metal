// SPDX-License-Identifier: MIT
// The small operations of core/tool_ops.h that go through arrays once. EXACT.
#include "metal/kernels/ieee.h"
#include "metal/kernels/section_sums.h"

enum : int { kToolThreads = 256 };

// The running thread's first element of an array, and how far it is to its next ones.
inline long first_items(uint group, uint index) { return (long(group) * kToolThreads + index) * kItems; }
inline long next_items(uint groups) { return long(groups) * kToolThreads * kItems; }

kernel void fill_bytes(constant FillArgs &args [[buffer(0)]], device uchar *a [[buffer(1)]],
                       uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]]) {
  const uint4 four = {args.pattern, args.pattern, args.pattern, args.pattern};
  const long first = long(group) * kToolThreads + index, step = long(groups) * kToolThreads;
  const long vectors = args.aligned != 0 ? args.bytes / 16 : 0;
  for (long i = first; i < vectors; i += step) reinterpret_cast<device uint4 *>(a)[i] = four;
  for (long i = vectors * 16 + first; i < args.bytes; i += step) a[i] = uchar(args.pattern >> uint(i % 4 * 8));
}

kernel void count_up(constant ArrayArgs &args [[buffer(0)]], device uchar *a [[buffer(1)]],
                     uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                     uint groups [[threadgroups_per_grid]]) {
  for (long i = first_items(group, index); i < args.n; i += next_items(groups)) {
    float x[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) x[j] = float(i + j);
    store_floats<F32>(a, args.aligned_a != 0, i, args.n - i, x);
  }
}

// a *= b, which may be the same array.
kernel void multiply_floats(constant ArrayArgs &args [[buffer(0)]], device uchar *a [[buffer(1)]], device const uchar *b [[buffer(2)]],
                            uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                            uint groups [[threadgroups_per_grid]]) {
  for (long i = first_items(group, index); i < args.n; i += next_items(groups)) {
    float x[kItems], y[kItems];
    load_floats<F32>(a, args.aligned_a != 0, i, args.n - i, x);
    load_floats<F32>(b, args.aligned_b != 0, i, args.n - i, y);
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) x[j] = ieee::multiply(x[j], y[j]);
    store_floats<F32>(a, args.aligned_a != 0, i, args.n - i, x);
  }
}

// The sum of the sums of squares of sections, which norms.metal makes.
kernel void remember_sum(constant HistoryArgs &args [[buffer(0)]], device const ulong *sums [[buffer(1)]],
                         device uchar *history [[buffer(2)]], uint index [[thread_position_in_threadgroup]]) {
  threadgroup float squares[1];
  if (index == 0) squares[0] = f64_to_float(ordered_sum(sums, args.sums));
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (long i = args.first + index; i < args.last; i += kToolThreads) store_f32(history, false, i, squares[0]);
}

// Sums in fp32 have the bits of their order, and that is the order of the elements, in each cell. So every cell is some one threadgroup's:
// it reads all indices, picks those of its cells in the order in which they come, and adds them up.
enum : int { kCellItems = 4, kCellChunk = kToolThreads * kCellItems };

inline bool is_mine(long cell, uint group, uint groups) {
  const ulong mixed = ulong(cell) * (ulong(0x9E3779B9u) << 32 | 0x7F4A7C15u) >> 32;
  return mixed * groups >> 32 == group;
}

kernel void add_to_cells(constant HistogramArgs &args [[buffer(0)]], device const uchar *rows [[buffer(1)]],
                         device const uchar *cols [[buffer(2)]], device const uchar *source [[buffer(3)]],
                         device uchar *histogram [[buffer(4)]], uint index [[thread_position_in_threadgroup]],
                         uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                         uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup long cells[kCellChunk];
  threadgroup float added[kCellChunk];
  threadgroup uint of_groups[kToolThreads / kLanes];
  const bool aligned = args.aligned_index != 0, aligned_floats = args.aligned_floats != 0;
  for (long first = 0; first < args.n; first += kCellChunk) {
    const long begin = first + long(index) * kCellItems;
    long cell[kCellItems];
    uint mine = 0;
    BNB_UNROLL
    for (int j = 0; j < kCellItems; ++j) {
      const bool there = begin + j < args.n;
      const int row = there ? int(load_32(rows, aligned, begin + j)) : -1, col = there ? int(load_32(cols, aligned, begin + j)) : -1;
      // What lies outside is an error on the CPU, where it can be reported; here it is left out.
      const bool inside = row >= 0 && col >= 0 && col < args.row_length;
      cell[j] = row * args.row_length + col;
      mine |= (inside && is_mine(cell[j], group, groups) ? 1u : 0u) << uint(j);
    }
    const uint up_to_here = simd_prefix_inclusive_sum(popcount(mine));
    if (lane == kLanes - 1) of_groups[simdgroup] = up_to_here;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint at = up_to_here - popcount(mine), picked = 0;
    for (uint i = 0; i < uint(kToolThreads / kLanes); ++i) {
      at += i < simdgroup ? of_groups[i] : 0u;
      picked += of_groups[i];
    }
    BNB_UNROLL
    for (int j = 0; j < kCellItems; ++j) {
      if ((mine >> uint(j) & 1u) == 0) continue;
      cells[at] = cell[j];
      added[at] = load_f32(source, aligned_floats, begin + j);
      ++at;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = index; i < picked; i += kToolThreads) {
      uint earlier = 0;
      while (earlier < i && cells[earlier] != cells[i]) ++earlier;
      if (earlier < i) continue;  // the first of a cell adds them all
      float sum = ieee::add(load_f32(histogram, aligned_floats, cells[i]), added[i]);
      for (uint j = i + 1; j < picked; ++j) {
        if (cells[j] == cells[i]) sum = ieee::add(sum, added[j]);
      }
      store_f32(histogram, aligned_floats, cells[i], sum);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    threadgroup_barrier(mem_flags::mem_device);  // another thread may add to a cell next
  }
}
