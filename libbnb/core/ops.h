// SPDX-License-Identifier: MIT
// The operations of a backend: one plain argument struct each, validated and stripped of descriptors by api/.
//
// Pointers may be unaligned: read them with load<> and store<> or with unaligned vector loads. Sizes are in elements. Every
// struct is what cuda, hip, metal and the CPU all receive.
#ifndef BNB_CORE_OPS_H_
#define BNB_CORE_OPS_H_

#include <bnb/bnb.h>

#include "core/dtype.h"
#include "formats/mx.h"

namespace bnb {

BNB_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// How the scales of blocks are stored.
enum class ScaleKind : uint8_t {
  kF32,
  kNested,  // see bnb_nested
  kE8M0,    // powers of two: MX
  kE4M3FN   // times a scale of the whole tensor: NVFP4
};

// The scale of block i, fp32, however it is stored.
struct AbsmaxView {
  ScaleKind kind = ScaleKind::kF32;
  const void *absmax = nullptr;         // fp32 [nb]; NULL for the other kinds
  const uint8_t *codes = nullptr;       // uint8 [nb]; NULL for fp32
  const void *nested_code = nullptr;    // nested: fp32 [256]
  const void *nested_absmax = nullptr;  // nested: fp32 [ceil(nb / nested_blocksize)]
  const void *nested_offset = nullptr;  // nested: fp32 [1]
  int64_t nested_blocksize = 1;
  const void *tensor_scale = nullptr;   // E4M3FN: fp32 [1]; NULL for 1

  BNB_INLINE float of_tensor() const { return tensor_scale ? load<float>(tensor_scale, 0) : 1.0f; }
  BNB_INLINE float at(int64_t block) const {
    switch (kind) {
      case ScaleKind::kF32: return load<float>(absmax, block);
      case ScaleKind::kE8M0: return formats::e8m0::decode(codes[block]);
      case ScaleKind::kE4M3FN: return formats::fp8::decode<formats::fp8::E4M3FN>(codes[block]) * of_tensor();
      case ScaleKind::kNested: break;
    }
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

struct QuantizeTernaryArgs {
  DType dtype;    // of a: a float dtype
  const void *a;  // [n]
  bnb_quant_type quant_type;
  bnb_ternary_scale rule;
  int64_t n, blocksize;  // TQ types: n is a multiple of 256, and so is blocksize unless it is n or more
  uint8_t *out;          // (n + 3) / 4 bytes, or 54 or 66 for every 256 elements
  void *scale;           // fp32 [nb]; NULL for TQ types if nobody wants them
};

struct DequantizeTernaryArgs {
  DType dtype;        // of out: a float dtype
  const uint8_t *a;   // as QuantizeTernaryArgs::out
  const void *scale;  // fp32 [nb]; TQ types have neither this nor a blocksize
  bnb_quant_type quant_type;
  int64_t n, blocksize;
  void *out;  // [n]
};

// MX and NVFP4.
struct QuantizeMxArgs {
  DType dtype;    // of a: a float dtype
  const void *a;  // [n]
  bnb_quant_type quant_type;
  bnb_mx_scale rule;
  int64_t n, blocksize;  // whole blocks
  uint8_t *out;          // [n], or [n / 2] of 4-bit codes
  uint8_t *scale;        // [nb]: E8M0, or E4M3FN for NVFP4
  void *tensor_scale;    // NVFP4: fp32 [1] or NULL
};

struct DequantizeMxArgs {
  DType dtype;       // of out: a float dtype
  const uint8_t *a;  // [n], or [n / 2] of 4-bit codes
  AbsmaxView scales;
  bnb_quant_type quant_type;
  int64_t n, blocksize;  // whole blocks
  void *out;             // [n]
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

// A product with weights that are codes with a scale per block, whatever the format.
struct GemmArgs {
  DType dtype;                   // of a and out: a float dtype
  const void *a;                 // [m, k], row i starts at element i * a_stride
  int64_t m, n, k, a_stride;
  const uint8_t *b;              // codes of [n, k], without gaps between rows: 4-bit ones in (n * k + 1) / 2 bytes
  AbsmaxView scales;             // of blocks of [n, k], regardless of rows
  bnb_quant_type quant_type;
  int64_t blocksize;             // even for 4-bit codes
  DType bias_dtype;              // a float dtype
  const void *bias;              // [n] or NULL
  void *out;                     // [m, n], row i starts at element i * out_stride
  int64_t out_stride;
};

struct GemmInt8Args {
  const int8_t *a;                     // [m, k], row i starts at i * a_stride
  const int8_t *b;                     // [n, k], row i starts at i * b_stride
  int64_t m, n, k, a_stride, b_stride; // sums of k products fit in int32
  DType dtype;                         // of out: int32, the sums themselves, or a float dtype
  const void *row_stats, *col_stats;   // fp32 [m] and [n]; for a float dtype, like all up to out
  DType bias_dtype;                    // a float dtype
  const void *bias;                    // [n] or NULL
  DType x_dtype;                       // a float dtype
  const void *x;                       // [m, k], row i starts at element i * x_stride: what is multiplied in outlier columns
  int64_t x_stride, outliers;
  const void *outlier_cols;            // int64 [outliers]
  void *out;                           // [m, n], row i starts at element i * out_stride
  int64_t out_stride;
};

struct LinearInt8Args {
  DType dtype;                         // of a and out: a float dtype
  const void *a;                       // [m, k], row i starts at element i * a_stride
  const int8_t *b;                     // [n, k], row i starts at i * b_stride
  int64_t m, n, k, a_stride, b_stride; // sums of k products fit in int32
  const void *col_stats;               // fp32 [n]
  float threshold;                     // 0: no outliers
  DType bias_dtype;                    // a float dtype
  const void *bias;                    // [n] or NULL
  void *out;                           // [m, n], row i starts at element i * out_stride
  int64_t out_stride;
};

// A product of int8 activations with ternary weights.
struct GemmTernaryArgs {
  const int8_t *a;            // [m, k], row i starts at i * a_stride
  int64_t m, n, k, a_stride;  // sums of k products fit in int32
  const uint8_t *b;           // codes of [n, k], without gaps between rows
  bnb_quant_type quant_type;
  const void *scale;          // fp32, one for each block; NULL for TQ types, whose blocks carry theirs
  int64_t block;              // weights of a row that share a scale: k, or less that divides it (1 if there are none)
  int64_t rows_per_scale;     // 1, or more if block is k
  DType dtype;                // of out: a float dtype
  const void *row_stats;      // fp32 [m], or [1] if they are the same for all rows
  bool same_row_stats;
  DType bias_dtype;           // a float dtype
  const void *bias;           // [n] or NULL
  void *out;                  // [m, n], row i starts at element i * out_stride
  int64_t out_stride;

  // Blocks of a row: with one (or none) the sums of a row are integers, with more they are weighted sums of such.
  BNB_INLINE int64_t blocks() const { return k / block; }
  BNB_INLINE float row_stat(int64_t row) const { return load<float>(row_stats, same_row_stats ? 0 : row); }
};

struct LinearTernaryArgs {
  DType dtype;                // of a and out: a float dtype
  const void *a;              // [m, k], row i starts at element i * a_stride
  int64_t a_stride;
  bool per_tensor;            // how a is quantized
  GemmTernaryArgs product;    // but for the int8 activations and row_stats
};

struct GemmCooArgs {
  const void *rowidx, *colidx;  // int32 [nnz]
  DType value_dtype;            // a float dtype or int8
  const void *values;           // [nnz]
  const void *value_scale;      // fp32 [1] or NULL
  int64_t nnz, m, n, k;
  DType b_dtype;          // a float dtype or int8
  const void *b;          // [k, n], or [n, k] if transposed_b; row i starts at element i * b_stride
  int64_t b_stride;
  bool transposed_b;
  const void *col_stats;  // fp32 [n] or NULL; for int8
  bool accumulate;        // out += instead of out =
  DType dtype;            // of out: a float dtype
  void *out;              // [m, n], row i starts at element i * out_stride
  int64_t out_stride;
};

// A quantizer of element counts n and block counts nb; nb of an empty tensor is 0.
BNB_INLINE int64_t block_count(int64_t n, int64_t blocksize) { return ceil_div(n, blocksize); }

}  // namespace bnb

#endif  // BNB_CORE_OPS_H_
