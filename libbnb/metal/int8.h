// SPDX-License-Identifier: MIT
// What int8 operations share on the host: quantization inside of others, and products by the first of a list of kernels that fits.
#ifndef BNB_METAL_INT8_H_
#define BNB_METAL_INT8_H_

#include "metal/kernels/args.h"
#include "metal/launch.h"

namespace bnb::metal {

inline uint64_t float_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// A matrix whose rows become int8.
struct Int8Rows {
  DType dtype;
  Place a;
  int64_t rows, cols, row_stride;
  float threshold;         // 0: no outliers
  Place out, row_stats;
  Place marks;             // a bit for every column, in words that are zeros: set where there is an outlier
  bool drops;              // columns with outliers become zeros, and
  Place outlier_cols;      // a byte for each, if somebody wants to know
};
kernels::Int8Args int8_args(const Commands &commands, const Int8Rows &rows);
void quantize_rows(Commands &commands, const Int8Rows &rows);
void drop_outliers(Commands &commands, const Int8Rows &rows);
// All rows as if they were one, without outliers; row_stats has one element, marks a word that is zero.
void quantize_tensor(Commands &commands, const Int8Rows &rows);

void clear_words(Commands &commands, const Place &words, int64_t count);

// A product: what is in the struct but for tiles, and what is bound beside it.
struct Int8Product {
  const char *file, *weights;  // weights: the suffix of its kernels
  kernels::Int8ProductArgs args;
  Place a, b, scale, row_stats, bias, x, list, count, out;
};
// Launches the kernel. Which one it is depends on shapes alone, so that results do not depend on addresses.
void multiply_int8(Commands &commands, Int8Product product);

// kernels::BiasArgs of a float dtype, and of int32 kernels::kSums.
uint32_t dtype_code(DType dtype);

}  // namespace bnb::metal

#endif  // BNB_METAL_INT8_H_
