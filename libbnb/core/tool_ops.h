// SPDX-License-Identifier: MIT
// Arguments of the small operations that only bitsandbytes' C symbols need (bitsandbytes.h). Conventions: core/ops.h.
#ifndef BNB_CORE_TOOL_OPS_H_
#define BNB_CORE_TOOL_OPS_H_

#include "core/dtype.h"

namespace bnb {

struct NearestCodeArgs {
  const void *code;  // fp32 [256], ascending
  const void *a;     // fp32 [n]
  int64_t n;
  uint8_t *out;  // [n]
};

struct Int8StatsArgs {
  const void *a;  // fp16 [rows, cols]
  int64_t rows, cols;
  float threshold;     // 0: no outliers
  void *row_stats;     // fp32 [rows]
  void *col_stats;     // fp32 [cols] or NULL
  void *row_outliers;  // int32 [rows + 1] or NULL: 0, then the number of outliers in each row
};

struct QuantizeInt8SparseArgs {
  const char *caller;  // named in errors that only the data can show
  const void *a;       // fp16 [rows, cols]
  int64_t rows, cols;
  float threshold;
  const void *row_stats;    // fp32 [rows]
  const void *col_stats;    // fp32 [cols]
  int8_t *out_row;          // [rows, cols]
  int8_t *out_col;          // [rows, cols]
  const void *row_offsets;  // int32 [rows + 1]: where the outliers of a row start below; NULL: no sparse output
  void *row_indices;        // int32 [row_offsets[rows]]
  void *col_indices;        // int32, likewise
  void *values;             // fp16, likewise
};

struct EstimateQuantilesArgs {
  DType dtype;    // of a: fp32 or fp16
  const void *a;  // [n]
  int64_t n;      // >= 1
  float offset;   // 0 to 0.5
  void *code;     // fp32 [256]
};

struct PercentileClippingArgs {
  DType dtype;    // of g: a float dtype
  const void *g;  // [n]
  int64_t n;
  int64_t step;     // 1 fills all of gnorm_vec
  void *gnorm_vec;  // fp32 [kGnormHistory]
};
inline constexpr int64_t kGnormHistory = 100;

struct HistogramAddArgs {
  const char *caller;  // named in errors that only the data can show
  void *histogram;     // fp32 [any, row_length]
  const void *rows;    // int32 [n]
  const void *cols;    // int32 [n]
  const void *added;   // fp32 [n]
  int64_t row_length, n;
};

struct FillArgs {
  void *a;  // [n]
  int64_t n;
  DType dtype;   // fp32 or uint8
  float value;   // for fp32
  uint8_t byte;  // for uint8
};

struct ArangeArgs {
  void *a;  // fp32 [n]
  int64_t n;
};

struct MultiplyArgs {
  void *a;        // fp32 [n]; becomes the product
  const void *b;  // fp32 [n]
  int64_t n;
};

struct TransposeInt8Args {
  const int8_t *a;  // [rows, cols], rows every a_stride elements
  int64_t rows, cols, a_stride;
  int8_t *out;  // [cols, rows], compact
};

// What a sum of int8 products becomes in int8: times its scale, rounded half to even and saturated.
struct SaturateInt8Args {
  const int32_t *a;    // [rows, cols], compact and aligned
  const void *scales;  // fp32 [cols]; NULL: none
  int64_t rows, cols;
  int8_t *out;  // rows every out_stride elements
  int64_t out_stride;
};

}  // namespace bnb

#endif  // BNB_CORE_TOOL_OPS_H_
