// SPDX-License-Identifier: MIT
// What the structs of arguments are made of. The host's compiler and Metal's both read this: numbers of fixed widths, in the order of
// their sizes, no pointers. Buffers are bound beside them.
#ifndef BNB_METAL_KERNELS_ARGS_H_
#define BNB_METAL_KERNELS_ARGS_H_

#if !defined(__METAL_VERSION__)
#include <cstdint>
#endif

namespace bnb {
namespace kernels {

// i / value for a divisor that is the same for the whole launch.
struct Divisor {
  int64_t value;
  int32_t shift;   // -1 if it is no power of two
  uint32_t small;  // 1 if what is divided has 32 bits
};
#if defined(__METAL_VERSION__)
inline long quotient(long i, constant Divisor &by) {
  if (by.shift >= 0) return i >> by.shift;
  return by.small != 0 ? long(uint(i) / uint(by.value)) : i / by.value;
}
#else
// most: the largest number that is divided.
inline Divisor divisor(int64_t value, int64_t most) {
  Divisor made = {value, -1, uint32_t(most <= INT64_C(0xFFFFFFFF) && value <= INT64_C(0xFFFFFFFF))};
  for (int32_t bit = 0; bit < 63; ++bit) {
    if (int64_t(1) << bit == value) made.shift = bit;
  }
  return made;
}
#endif

// Scales of blocks, however they are stored: kinds are those of bnb::ScaleKind.
struct ScaleArgs {
  Divisor nested_blocksize;
  uint32_t kind;
  uint32_t has_tensor_scale;
  uint32_t aligned;  // absmax and nested absmax, to 4 bytes
  uint32_t unused;
};

struct QuantizeArgs {
  int64_t n, blocks;
  Divisor blocksize;
  uint32_t aligned_in, aligned_out, aligned_scale;  // to 16, 16 and 4 bytes
  uint32_t subtracts;
};

struct DequantizeArgs {
  int64_t n;
  Divisor blocksize;
  ScaleArgs scales;
  uint32_t aligned_in, aligned_out;  // to 16 bytes
};

struct MxArgs {
  QuantizeArgs blocks;
  int32_t rule;
  uint32_t has_tensor_scale;
};

// The mean of |a| over blocks: pieces of 1024 elements, sections of 64 pieces.
struct AbsmeanArgs {
  int64_t n, blocksize, blocks;
  Divisor pieces, sections;  // of a block
  uint32_t aligned;          // a, to 16 bytes
  uint32_t unused;
};

// Blocks of 256 weights as GGUF has them.
struct GgufArgs {
  int64_t blocks;
  Divisor blocksize;                      // of scales
  uint32_t aligned_in, aligned_out;       // to 16 bytes
  uint32_t aligned_scale, writes_scales;  // to 4 bytes
};

struct NestedSumArgs {
  int64_t n, pieces;
  uint32_t aligned;  // to 4 bytes
  uint32_t unused;
};

struct NestedArgs {
  int64_t n;
  ScaleArgs scales;
  uint32_t aligned_out;  // to 4 bytes
  uint32_t unused;
};

// Which float dtype a bias has.
enum : uint32_t { kNoBias = 0, kBiasF32 = 1, kBiasF16 = 2, kBiasBF16 = 3 };
struct BiasArgs {
  uint32_t dtype;
  uint32_t aligned;  // to an element
};

// Matrices of int8: rows of the input may be strided.
struct Int8Args {
  int64_t rows, cols, row_stride;
  int64_t strips, slices;                           // of columns and of rows, where threadgroups share a matrix so
  uint32_t threshold_bits;                          // 0: no outliers
  uint32_t marks;                                   // 1 if outliers set bits of a mask
  uint32_t wide;                                    // 1 if a row is the work of a threadgroup
  uint32_t aligned_in, aligned_out, aligned_stats;  // to an element
  uint32_t writes_cols;                             // 1 if somebody wants to know which columns have outliers
  uint32_t unused;
};

// The outliers of fp16 rows in coordinate form.
struct OutlierArgs {
  Int8Args matrix;
  uint32_t aligned_offsets, aligned_indices, aligned_values;  // to an element
  uint32_t unused;
};

struct Int8MmArgs {
  int64_t rows, cols;
  BiasArgs bias;
  uint32_t aligned_in, aligned_out, aligned_stats;  // to an element
  uint32_t unused;
};

// Arrays that a kernel goes through once.
struct ArrayArgs {
  int64_t n;
  uint32_t aligned_a, aligned_b;  // to 16 bytes: what is read first or alone, and the other one
};

struct CopyArgs {
  int64_t bytes;
  uint32_t aligned;  // both sides, to 16 bytes
  uint32_t unused;
};

struct FillArgs {
  int64_t bytes;
  uint32_t pattern;  // of four bytes that are the same, or of the number that fills
  uint32_t aligned;  // to 16 bytes
};

// Elements first .. last - 1 of a history of gradient norms become the sum of sums.
struct HistoryArgs {
  int64_t sums, first, last;
};

struct HistogramArgs {
  int64_t n, row_length;
  uint32_t aligned_index;   // rows and cols, to 4 bytes
  uint32_t aligned_floats;  // the histogram and what is added, to 4 bytes
};

// One digit of a search for quantiles: the upper 16 bits of keys, then the next and the last 8.
struct CountArgs {
  int64_t n;
  uint32_t level;    // 0, 1, 2
  uint32_t aligned;  // to 16 bytes
};
struct QuantileArgs {
  uint64_t fractions[256];  // float64, as bits: how far a quantile lies above the element below it
  uint32_t below[256];      // the place of that element
  uint32_t last;            // place
  uint32_t level;
};

struct TransposeArgs {
  int64_t rows, cols, a_stride, tiles;
  Divisor across;                    // tiles
  uint32_t aligned_a, aligned_out;  // every row, to 16 bytes
};

struct SaturateArgs {
  int64_t rows, cols, out_stride, pieces;
  Divisor across;            // pieces of 16 elements
  uint32_t aligned_in;       // to 4 bytes
  uint32_t aligned_out;      // every row, to 16 bytes
  uint32_t aligned_scales;   // to 4 bytes
  uint32_t has_scales;
};

// Sums of squares: of elements, or of sums already made.
struct NormArgs {
  int64_t n, sums;
  int64_t index;            // of the tensor in the list
  uint32_t aligned;       // to an element
  uint32_t has_norm, wide;  // wide: float64
  uint32_t has_found_inf;
};

// One digit of a sort of 32-bit keys: units are stretches of `of_unit` of them.
struct SortArgs {
  int64_t keys, of_unit, units;
  uint32_t shift;
  uint32_t first;  // 1 if keys still are where they came from
};

// A sparse matrix in coordinate form times a dense one.
struct CooArgs {
  int64_t m, n, k, values;
  int64_t b_stride, out_stride, turned_stride;
  int64_t tiles, slices;            // of columns and of rows of the product
  BiasArgs value, out;              // their dtypes; a value of none is an int8
  uint32_t has_scale, has_stats;    // of values, and of the columns of an int8 B
  uint32_t accumulates, marks;      // marks: 1 if columns that are used set bits
  uint32_t aligned_index;           // rowidx and colidx, to 4 bytes
  uint32_t aligned_stats;           // to 4 bytes
  uint32_t aligned_b;               // to an element
  uint32_t vectors_b, vectors_out;  // 1 if every row begins at a multiple of 16 bytes
  uint32_t row_shift;               // log2 of the threads of a row of the product
};

// A step of one tensor. Numbers of float64 are bits.
enum : uint32_t { kDtypeF32 = 0, kDtypeF16 = 1, kDtypeBF16 = 2 };
struct StepArgs {
  int64_t n, sections, blocks;
  Divisor blocksize;  // as blocks, of states in 8 bits
  uint64_t gnorm_scale, bias_correction, step_size;  // what finishes them is in the device's memory
  uint64_t param_norm, max_unorm;
  float coupled_decay, kept, beta1, rest1, beta2, rest2, beta3, rest3, mix1, mix3, eps;
  float plain_gnorm_scale, plain_step_size;  // where nothing in the device's memory changes them
  uint32_t first_step;
  uint32_t g_dtype, p_dtype;
  uint32_t aligned_g, aligned_p, aligned_states;  // to 16 bytes
  uint32_t aligned_slow;                          // AdEMAMix: the second average, too
  uint32_t aligned_absmax;                        // to 4 bytes
  uint32_t has_scale, has_unorm, has_found_inf;
  uint32_t skip_zeros, skip_nonfinite;
  uint32_t stops;    // NaN and infinite gradients stop the step
  uint32_t limited;  // by max_unorm
};

// Products with quantized weights, whatever their format.
enum : uint32_t { kWeightsNf4 = 0, kWeightsFp4 = 1, kWeightsE2M1 = 2, kWeightsE4M3FN = 3, kWeightsE5M2 = 4 };
struct GemmArgs {
  int64_t m, n, k, a_stride, out_stride;
  int64_t tiles_m, tiles;           // of outputs, those of a column of tiles one behind the other
  Divisor blocksize;
  ScaleArgs scales;
  BiasArgs bias;
  uint32_t weights;                 // which format they have
  uint32_t low_first;               // 1 if the first of two codes is in the low half of a byte
  uint32_t aligned_a, aligned_out;  // to an element
  uint32_t vectors_a, vectors_b;    // 1 if every 16th byte of a row lies at a multiple of 16
};

// Products of int8 rows with weights that are int8 or become it. What does not apply is 0.
struct Int8ProductArgs {
  int64_t m, n, k, a_stride, b_stride, x_stride, out_stride;  // b_stride: int8 alone
  int64_t tiles_m, tiles;                                     // of outputs, those of a column of tiles one behind the other
  int64_t blocks;                                             // of a row, each with a scale of its own
  int64_t outliers;
  Divisor block, rows_per_scale;           // weights of a row that share a scale; rows, if it is for whole ones
  BiasArgs bias, x;
  uint32_t out_dtype;                      // as BiasArgs::dtype; kSums: int32
  uint32_t same_row_stats;                 // 1 if there is one for all rows
  uint32_t counted;                        // 1 if a kernel before has counted the outlier columns
  uint32_t aligned_a;                      // rows, to 16 bytes
  uint32_t aligned_b;                      // int8: rows, to 16 bytes; two bits: items of 16, to 4 bytes; TQ blocks: to 2 bytes
  uint32_t aligned_scale, aligned_out;     // to an element
  uint32_t aligned_list;                   // to 4 bytes
};
enum : uint32_t { kSums = 0 };

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_ARGS_H_
