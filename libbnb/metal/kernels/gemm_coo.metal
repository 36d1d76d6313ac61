// SPDX-License-Identifier: MIT
// out = S @ B for a sparse S in coordinate form: values are sorted by rows (sort.metal), then each thread adds up rows of B times the
// values of a row of S for some columns, by fma. SUM; the sort is stable, so that values of a row are added in the order in which they
// came.
//
// A B that stands on its side is turned first, as far as S needs it. Where an index lies outside of its matrix, the CPU returns an error;
// here nobody can wait to be told, and the value counts for nothing.
#include "metal/kernels/floats.h"
#include "metal/kernels/int8_codes.h"

enum : int { kCooThreads = 256 };

// keys[i]: the row of value i, and for one outside of S the number of rows. A bit for each column that has a value.
kernel void coo_keys(constant CooArgs &args [[buffer(0)]], device const uchar *rowidx [[buffer(1)]],
                     device const uchar *colidx [[buffer(2)]], device uint *keys [[buffer(3)]], device atomic_uint *used [[buffer(4)]],
                     uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                     uint groups [[threadgroups_per_grid]]) {
  for (long i = long(group) * kCooThreads + index; i < args.values; i += long(groups) * kCooThreads) {
    const int row = int(load_32(rowidx, args.aligned_index != 0, i)), column = int(load_32(colidx, args.aligned_index != 0, i));
    const bool inside = row >= 0 && row < args.m && column >= 0 && column < args.k;
    keys[i] = inside ? uint(row) : args.m < 0xFFFFFFFFL ? uint(args.m) : 0xFFFFFFFFu;
    if (!inside || args.marks == 0) continue;
    device atomic_uint *word = used + column / 32;
    const uint bit = 1u << uint(column % 32);
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0) atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
  }
}

// entries[i]: the column and the factor of sorted value i, the latter as bits.
kernel void coo_entries(constant CooArgs &args [[buffer(0)]], device const uchar *colidx [[buffer(1)]],
                        device const uchar *values [[buffer(2)]], device const uchar *scale [[buffer(3)]],
                        device const uint *origins [[buffer(4)]], device uint2 *entries [[buffer(5)]],
                        uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                        uint groups [[threadgroups_per_grid]]) {
  const float by = args.has_scale != 0 ? load_f32(scale, false, 0) : 1.0f;
  for (long i = long(group) * kCooThreads + index; i < args.values; i += long(groups) * kCooThreads) {
    const long origin = origins[i];
    const float value = args.value.dtype == kNoBias ? float(as_type<char>(values[origin])) : load_any_float(args.value, values, origin);
    const float factor = args.has_scale != 0 ? ieee::multiply(value, by) : value;
    const uint2 entry = {load_32(colidx, args.aligned_index != 0, origin), bits_from_float(factor)};
    entries[i] = entry;
  }
}

// starts[r]: the number of values in rows below r.
kernel void coo_starts(constant CooArgs &args [[buffer(0)]], device const uint *rows [[buffer(1)]], device uint *starts [[buffer(2)]],
                       uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                       uint groups [[threadgroups_per_grid]]) {
  for (long r = long(group) * kCooThreads + index; r <= args.m; r += long(groups) * kCooThreads) {
    long low = 0, high = args.values;
    while (low < high) {
      const long middle = (low + high) / 2;
      if (long(rows[middle]) < r) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    starts[r] = uint(low);
  }
}

// B[n, k] to turned[k, n], by squares in threadgroup memory. Bits is an unsigned number of the size of an element.
enum : int { kSquare = 64, kSquareDown = kCooThreads / kSquare };

template <typename Bits>
kernel void turn_dense(constant CooArgs &args [[buffer(0)]], device const uchar *b [[buffer(1)]], device const uint *used [[buffer(2)]],
                       device Bits *turned [[buffer(3)]], uint index [[thread_position_in_threadgroup]],
                       uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  enum : int { kSquarePitch = kSquare + 4 / int(sizeof(Bits)) };
  threadgroup Bits square[kSquare * kSquarePitch];
  const bool aligned = args.aligned_b != 0;
  const int across = int(index) % kSquare, down = int(index) / kSquare;
  const long squares_of_k = (args.k + kSquare - 1) / kSquare, squares = squares_of_k * ((args.n + kSquare - 1) / kSquare);
  for (long i = group; i < squares; i += groups) {
    const long k = i % squares_of_k * kSquare, n = i / squares_of_k * kSquare;
    const uint low = used[k / 32], high = k + 32 < args.k ? used[k / 32 + 1] : 0u;
    if ((low | high) == 0) continue;  // the same for all threads
    for (int j = down; j < kSquare && n + j < args.n; j += kSquareDown) {
      if (k + across >= args.k) continue;
      const long at = (n + j) * args.b_stride + k + across;
      square[j * kSquarePitch + across] =
          Bits(sizeof(Bits) == 1 ? uint(b[at]) : sizeof(Bits) == 2 ? load_16(b, aligned, at) : load_32(b, aligned, at));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int j = down; j < kSquare; j += kSquareDown) {
      const bool is_used = ((j < 32 ? low >> uint(j) : high >> uint(j - 32)) & 1u) != 0;
      if (is_used && n + across < args.n) turned[(k + j) * args.turned_stride + n + across] = square[across * kSquarePitch + j];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

BNB_KERNEL("turn_dense_1", turn_dense<uchar>)
BNB_KERNEL("turn_dense_2", turn_dense<ushort>)
BNB_KERNEL("turn_dense_4", turn_dense<uint>)

// Some neighbouring elements of a row of B, as they count: 16 bytes of floats, 8 of codes.
template <typename Tag>
struct FloatColumns {
  enum : int { kTogether = 16 / Tag::kBytes };
  static inline void load_stats(constant CooArgs &, device const uchar *, long, long, thread float *) {}
  static inline void load(constant CooArgs &args, device const uchar *b, thread const float *, long i, long count, thread float *x) {
    if (args.vectors_b != 0 && count >= kTogether) {
      const uint4 vector = *reinterpret_cast<device const uint4 *>(b + i * Tag::kBytes);
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        x[j] = Tag::widen(Tag::kBytes == 4 ? vector[j % 4] : (vector[j / 2 % 4] >> uint(j % 2 * 16)) & 0xFFFFu);
      }
      return;
    }
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) x[j] = j < count ? load_float<Tag>(b, args.aligned_b != 0, i + j) : 0.0f;
  }
};
struct CodeColumns {
  enum : int { kTogether = 8 };
  static inline void load_stats(constant CooArgs &args, device const uchar *stats, long n, long count, thread float *of_columns) {
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      of_columns[j] = args.has_stats != 0 && j < count ? load_f32(stats, args.aligned_stats != 0, n + j) : 0.0f;
    }
  }
  static inline void load(constant CooArgs &args, device const uchar *b, thread const float *stats, long i, long count, thread float *x) {
    uchar codes[kTogether];
    load_bytes<kTogether>(b, args.vectors_b != 0, i, count, codes);
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      const float code = float(as_type<char>(codes[j]));
      x[j] = args.has_stats != 0 ? code * stats[j] * (1.0f / 127.0f) : code;
    }
  }
};

// Stores the first `count` of some sums: 8 bytes at once where rows are whole vectors.
template <typename Tag, int kCount>
inline void store_sums(constant CooArgs &args, device uchar *out, long i, long count, thread const float *sums) {
  enum : int { kOfPair = 8 / Tag::kBytes };
  if (args.vectors_out == 0 || count < kCount) {
    BNB_UNROLL
    for (int j = 0; j < kCount; ++j) {
      if (j < count) store_float<Tag>(out, args.out.aligned != 0, i + j, sums[j]);
    }
    return;
  }
  device uint2 *pairs = reinterpret_cast<device uint2 *>(out + i * Tag::kBytes);
  BNB_UNROLL
  for (int v = 0; v < kCount / kOfPair; ++v) {
    uint2 pair = {0, 0};
    BNB_UNROLL
    for (int w = 0; w < 2; ++w) {
      const int first = v * kOfPair + w * kOfPair / 2;
      pair[w] = Tag::kBytes == 4 ? Tag::narrow(sums[first]) : Tag::narrow(sums[first]) | Tag::narrow(sums[(first + 1) % kCount]) << 16;
    }
    pairs[v] = pair;
  }
}

// Tiles of columns by slices of rows; 2^row_shift threads have a row, some neighbouring columns each.
template <typename Columns>
kernel void multiply_coo(constant CooArgs &args [[buffer(0)]], device const uint2 *entries [[buffer(1)]],
                         device const uint *starts [[buffer(2)]], device const uchar *b [[buffer(3)]],
                         device const uchar *col_stats [[buffer(4)]], device uchar *out [[buffer(5)]],
                         uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
  enum : int { kTogether = Columns::kTogether };
  const uint thread_of_row = index & ((1u << args.row_shift) - 1u), row_of_group = index >> args.row_shift;
  const uint tile = group % uint(args.tiles), slice = group / uint(args.tiles), rows = uint(kCooThreads) >> args.row_shift;
  const long n = ((long(tile) << args.row_shift) + thread_of_row) * kTogether, left = args.n - n;
  if (left <= 0) return;
  float stats[kTogether];
  Columns::load_stats(args, col_stats, n, left, stats);
  for (long m = long(slice) * rows + row_of_group; m < args.m; m += args.slices * rows) {
    const uint end = starts[m + 1];
    uint i = starts[m];
    if (args.accumulates != 0 && i == end) continue;
    const long at = m * args.out_stride + n;
    float sums[kTogether];
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) sums[j] = args.accumulates != 0 && j < left ? load_any_float(args.out, out, at + j) : 0.0f;
    for (; i < end; ++i) {
      const uint2 entry = entries[i];
      const float factor = float_from_bits(entry[1]);
      float x[kTogether];
      Columns::load(args, b, stats, long(entry[0]) * args.b_stride + n, left, x);
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) sums[j] = fma(factor, x[j], sums[j]);
    }
    if (args.out.dtype == kBiasF32) {
      store_sums<F32, kTogether>(args, out, at, left, sums);
    } else if (args.out.dtype == kBiasF16) {
      store_sums<F16, kTogether>(args, out, at, left, sums);
    } else {
      store_sums<BF16, kTogether>(args, out, at, left, sums);
    }
  }
}

BNB_KERNEL("multiply_coo_f32", multiply_coo<FloatColumns<F32>>)
BNB_KERNEL("multiply_coo_f16", multiply_coo<FloatColumns<F16>>)
BNB_KERNEL("multiply_coo_bf16", multiply_coo<FloatColumns<BF16>>)
BNB_KERNEL("multiply_coo_i8", multiply_coo<CodeColumns>)
