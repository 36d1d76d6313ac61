// SPDX-License-Identifier: MIT
// The operations of a backend: one plain argument struct each, validated and stripped of descriptors by api/.
//
// Pointers may be unaligned: read them with load<> and store<> or with unaligned vector loads. Sizes are in elements. Every
// struct is what cuda, hip, metal and the CPU all receive.
#ifndef BNB_CORE_OPS_H_
#define BNB_CORE_OPS_H_

#include <bnb/bnb.h>

#include "core/dtype.h"

namespace bnb {

BNB_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// The scale of block i: fp32 as it is, or nested (see bnb_nested).
struct AbsmaxView {
  const void *absmax = nullptr;         // fp32 [nb]; NULL if nested
  const uint8_t *codes = nullptr;       // nested: uint8 [nb]
  const void *nested_code = nullptr;    // nested: fp32 [256]
  const void *nested_absmax = nullptr;  // nested: fp32 [ceil(nb / nested_blocksize)]
  const void *nested_offset = nullptr;  // nested: fp32 [1]
  int64_t nested_blocksize = 1;

  BNB_INLINE float at(int64_t block) const {
    if (absmax) return load<float>(absmax, block);
    const float product = load<float>(nested_code, codes[block]) * load<float>(nested_absmax, block / nested_blocksize);
    return product + load<float>(nested_offset, 0);
  }
};

struct QuantizeBlockwiseArgs {
  DType dtype;       // of a: a float dtype
  const void *a;     // [n]
  const void *code;  // fp32 [256], ascending
  int64_t n, blocksize;
  float subtract;  // taken off every element first (the offset of nested quantization), 0 otherwise
  uint8_t *out;    // [n]
  void *absmax;    // fp32 [nb]
};

struct DequantizeBlockwiseArgs {
  DType dtype;       // of out: a float dtype
  const uint8_t *a;  // [n]
  AbsmaxView absmax;
  const void *code;  // fp32 [256]
  int64_t n, blocksize;
  void *out;  // [n]
};

struct QuantizeNestedArgs {
  const void *absmax;  // fp32 [n]
  const void *code;    // fp32 [256]
  int64_t n, blocksize;
  uint8_t *out;         // [n]
  void *nested_absmax;  // fp32 [ceil(n / blocksize)]
  void *offset;         // fp32 [1]
};

struct DequantizeNestedArgs {
  AbsmaxView absmax;  // nested
  int64_t n;
  void *out;  // fp32 [n]
};

struct Quantize4bitArgs {
  DType dtype;    // of a: a float dtype
  const void *a;  // [n]
  bnb_quant_type quant_type;
  int64_t n, blocksize;  // blocksize is even
  uint8_t *out;          // (n + 1) / 2 bytes of codes,
  int64_t out_bytes;     // and zeros up to here
  void *absmax;          // fp32 [nb]
};

struct Dequantize4bitArgs {
  DType dtype;       // of out: a float dtype
  const uint8_t *a;  // [(n + 1) / 2]
  AbsmaxView absmax;
  bnb_quant_type quant_type;
  int64_t n, blocksize;
  void *out;  // [n]
};

struct QuantizeFp8Args {
  DType dtype;    // of a: a float dtype
  const void *a;  // [n]
  bnb_quant_type quant_type;
  int64_t n, blocksize;
  uint8_t *out;  // [n]
  void *scale;   // fp32 [nb]
};

struct DequantizeFp8Args {
  DType dtype;       // of out: a float dtype
  const uint8_t *a;  // [n]
  const void *scale;  // fp32 [nb]
  bnb_quant_type quant_type;
  int64_t n, blocksize;
  void *out;  // [n]
};

struct QuantizeInt8Args {
  DType dtype;         // of a: a float dtype
  const void *a;       // [rows, cols], row r starts at element r * row_stride
  int64_t rows, cols, row_stride;
  float threshold;         // 0: no outliers
  int8_t *out;             // [rows, cols]
  void *row_stats;         // fp32 [rows]
  uint8_t *outlier_cols;   // [cols] or NULL
  int8_t *out_col;         // [rows, cols]; double quantization only, else NULL
  void *col_stats;         // fp32 [cols]; with out_col
};

struct DequantizeInt8Args {
  DType dtype;      // of out: a float dtype
  const int8_t *a;  // [rows, cols], row r starts at r * row_stride
  int64_t rows, cols, row_stride;
  const void *row_stats;  // fp32 [rows]
  void *out;              // [rows, cols]
};

struct DequantizeInt8MmArgs {
  DType dtype;    // of out: a float dtype
  const void *a;  // int32 [rows, cols]
  int64_t rows, cols;
  const void *row_stats;  // fp32 [rows]
  const void *col_stats;  // fp32 [cols]
  DType bias_dtype;       // a float dtype
  const void *bias;       // [cols] or NULL
  void *out;              // [rows, cols]
};

struct Gemm4bitArgs {
  DType dtype;                   // of a and out: a float dtype
  const void *a;                 // [m, k], row i starts at element i * a_stride
  int64_t m, n, k, a_stride;
  const uint8_t *b;              // codes of [n, k], packed regardless of rows: (n * k + 1) / 2 bytes
  AbsmaxView absmax;             // of blocks of [n, k], regardless of rows
  bnb_quant_type quant_type;
  int64_t blocksize;             // even
  DType bias_dtype;              // a float dtype
  const void *bias;              // [n] or NULL
  void *out;                     // [m, n], row i starts at element i * out_stride
  int64_t out_stride;
};

// A quantizer of element counts n and block counts nb; nb of an empty tensor is 0.
BNB_INLINE int64_t block_count(int64_t n, int64_t blocksize) { return ceil_div(n, blocksize); }

}  // namespace bnb

#endif  // BNB_CORE_OPS_H_
