// SPDX-License-Identifier: MIT
// Products of int8 rows with weights that are int8 or become it: what their kernels are given, and what they do with sums.
//
// Apple's GPUs multiply floats, not bytes. A sum of products is exact in fp32 as long as it stays below 2^24, which is what every kernel
// looks after: it is in float for so many columns, then it goes on as an integer, or, where blocks have scales, into a weighted sum.
#ifndef BNB_METAL_KERNELS_INT8_PRODUCT_H_
#define BNB_METAL_KERNELS_INT8_PRODUCT_H_

#include "metal/kernels/int8_codes.h"

namespace bnb {
namespace kernels {

struct Int8Buffers {
  device const uchar *a;          // int8 [m, k]
  device const uchar *b;          // [n, k]: int8, or codes
  device const uchar *scale;      // fp32: of blocks, or of rows
  device const uchar *row_stats;  // fp32 [m] or [1]
  device const uchar *bias;       // [n]
  device const uchar *x;          // [m, k]: what is multiplied in outlier columns
  device const uchar *list;       // int64: which columns those are
  device const uint *count;       // how many, if a kernel has counted them
  device uchar *out;              // [m, n]
};

inline float row_stat(constant Int8ProductArgs &args, Int8Buffers from, long row) {
  return load_f32(from.row_stats, args.aligned_scale != 0, args.same_row_stats != 0 ? 0 : row);
}

inline void store_sum(constant Int8ProductArgs &args, Int8Buffers to, long row, long column, int sum) {
  store_32(to.out, args.aligned_out != 0, row * args.out_stride + column, uint(sum));
}
inline void store_value(constant Int8ProductArgs &args, Int8Buffers to, long row, long column, float value) {
  const float x = args.bias.dtype == kNoBias ? value : ieee::add(value, load_any_float(args.bias, to.bias, column));
  const long at = row * args.out_stride + column;
  const bool aligned = args.aligned_out != 0;
  if (args.out_dtype == kBiasF32) {
    store_float<F32>(to.out, aligned, at, x);
  } else if (args.out_dtype == kBiasF16) {
    store_float<F16>(to.out, aligned, at, x);
  } else {
    store_float<BF16>(to.out, aligned, at, x);
  }
}

// What sums become, but for outlier columns and bias. With one scale for a row this is EXACT.
template <typename Weights>
inline float scaled_sum_of(constant Int8ProductArgs &args, Int8Buffers from, float sum, long row, long column) {
  const float stat = row_stat(args, from, row);
  if (Weights::kBlocks && args.blocks != 1) return sum * (stat * (1.0f / 127.0f));
  const float scale = ieee::multiply(stat, Weights::row_scale(args, from, column));
  return ieee::multiply(ieee::multiply(sum, scale), Weights::unit());
}

inline long outlier_columns(constant Int8ProductArgs &args, Int8Buffers from) {
  return args.counted != 0 ? long(from.count[0]) : args.outliers;
}
// Column i of the list. One that A does not have (the CPU reports such) counts as zeros: -1.
inline long outlier_column(constant Int8ProductArgs &args, Int8Buffers from, long i) {
  const uint low = load_32(from.list, args.aligned_list != 0, 2 * i), high = load_32(from.list, args.aligned_list != 0, 2 * i + 1);
  const long k = long(ulong(low) | ulong(high) << 32);
  return k >= 0 && k < args.k ? k : -1;
}
inline float outlier_activation(constant Int8ProductArgs &args, Int8Buffers from, long row, long k) {
  return load_any_float(args.x, from.x, row * args.x_stride + k);
}
inline float outlier_weight(constant Int8ProductArgs &args, Int8Buffers from, long column, long k) {
  const float code = float(as_type<char>(from.b[column * args.b_stride + k]));
  return code * load_f32(from.scale, args.aligned_scale != 0, column) * (1.0f / 127.0f);
}

// Four int8 as numbers.
inline void floats_of_bytes(uint word, thread float *x) {
  BNB_UNROLL
  for (int i = 0; i < 4; ++i) x[i] = float(int(word << uint(24 - 8 * i)) >> 24);
}

// Bytes k to k + 15 of a row, zeros past `count` of them.
inline uint4 load_sixteen(device const uchar *row, bool aligned, long k, long count) {
  if (aligned && count >= 16) return *reinterpret_cast<device const uint4 *>(row + k);
  uint4 words = {0, 0, 0, 0};
  BNB_UNROLL
  for (int i = 0; i < 16; ++i) {
    if (i < count) words[i / 4] |= uint(row[k + i]) << uint(i % 4 * 8);
  }
  return words;
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_INT8_PRODUCT_H_
