/* SPDX-License-Identifier: MIT */
/* The C symbols of bitsandbytes: its names, argument orders and types, for programs written for libbitsandbytes_*.so.
 *
 * WHAT IS THE SAME. Every name below has the arguments of the bitsandbytes release that last had it. Pointers are bare:
 * sizes are the caller's promise. fp16 and bf16 are raw 16-bit patterns. Codes, scales and byte layouts are those of
 * bitsandbytes. New programs should use bnb.h, whose descriptors say what they point to.
 *
 * WHAT IS DIFFERENT
 *   Status    Where theirs returns nothing, ours returns a bnb_status (the calling convention allows that), with words
 *             in bnb_last_error(). After anything but BNB_OK nothing was written. Null pointers to something, n < 0 and
 *             blocksize < 1 are BNB_ERROR_INVALID_ARGUMENT; n = 0 is fine.
 *   Numbers   Exactly those of bnb.h: where bitsandbytes approximates or its own backends disagree, ours is the exact
 *             value (docs/bitsandbytes_symbols.md).
 *   Memory    A call with a pointer to memory of a GPU, or to managed memory, runs on that GPU, on `stream` (the default one
 *             where a name has none). Host memory among its other pointers is copied there, and results back, which waits for
 *             the stream; fastest with none. A call with host memory alone runs on the CPU: the names that bitsandbytes has
 *             on GPUs only (cquantize_blockwise_fp32_nf4, cint8_vector_quant ...) work there, too. Names with _cpu in them
 *             take host memory. In the CPU library every pointer is host memory. On Metal, where a buffer is no address,
 *             managed memory is the only memory of the GPU: what cget_managed_ptr and bnb_allocate_managed give, from any byte
 *             on. Pointers may be unaligned. Outputs must not overlap inputs or other outputs.
 *   Absent    Left out, because what they meant is gone: tile layouts of old GPUs (ctransform_*, cextractOutliers_*,
 *             cigemmlt_turing_*, cigemmlt_ampere_*), static 8-bit optimizer states (c*_static_8bit_*), stochastic
 *             rounding by a caller's random numbers (cquantize_blockwise_stochastic_*), cgemm_host_fp16, and names
 *             that older releases gave to functions below (c*32bit_g32, c*_8bit_blockwise_fp32 ...).
 *
 * HOW TO READ IT. A family of functions is one argument list and one list of suffixes: BNB_ARGS_<FAMILY>(T) are the
 * arguments for elements of type T, BNB_FLOATS(X, family) stands for family_fp32, family_fp16 and family_bf16. */
#ifndef BNB_BITSANDBYTES_H_
#define BNB_BITSANDBYTES_H_

#include "bnb.h"

#if !defined(BNB_CDEF) && !defined(__cplusplus)
#include <stdbool.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef float bnb_fp32;
typedef uint16_t bnb_fp16; /* bits of an IEEE binary16 */
typedef uint16_t bnb_bf16; /* bits of a bfloat16: the upper half of a float */

/* X(family, suffix, T) for every type that a family has. */
#define BNB_FLOATS(X, family) X(family, fp32, bnb_fp32) X(family, fp16, bnb_fp16) X(family, bf16, bnb_bf16)
#define BNB_FLOATS_OLD(X, family) X(family, 32, bnb_fp32) X(family, 16, bnb_fp16) /* families older than bf16 */

/* ------------------------------------------------------------------------------------------------------------------
 * 8-bit and 4-bit blockwise quantization: cquantize_blockwise and cquantize_4bit of bnb.h.
 *
 * code: fp32, 256 finite entries in ascending order; the _fp4 and _nf4 names ignore it and it may be NULL.
 * A: n elements.  absmax: one fp32 per block.  out: n bytes, or (n + 1) / 2 bytes for 4 bits.
 * blocksize: elements, >= 1, any; even for 4 bits. */

#define BNB_ARGS_QUANTIZE_BLOCKWISE(T) const float *code, const T *A, float *absmax, uint8_t *out, int blocksize, int n
#define BNB_ARGS_DEQUANTIZE_BLOCKWISE(T) \
  const float *code, const uint8_t *A, const float *absmax, T *out, int blocksize, int n, void *stream

#define BNB_DECLARE(family, suffix, T)                                        \
  BNB_API bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE(T));       \
  BNB_API bnb_status family##_##suffix##_fp4(BNB_ARGS_QUANTIZE_BLOCKWISE(T)); \
  BNB_API bnb_status family##_##suffix##_nf4(BNB_ARGS_QUANTIZE_BLOCKWISE(T));
BNB_FLOATS(BNB_DECLARE, cquantize_blockwise)
#undef BNB_DECLARE

#define BNB_DECLARE(family, suffix, T)                                          \
  BNB_API bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T));       \
  BNB_API bnb_status family##_##suffix##_fp4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)); \
  BNB_API bnb_status family##_##suffix##_nf4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T));
BNB_FLOATS(BNB_DECLARE, cdequantize_blockwise)
#undef BNB_DECLARE

/* The same for host memory, by the names of libbitsandbytes_cpu.so. */

#define BNB_ARGS_QUANTIZE_BLOCKWISE_CPU(T) \
  const float *code, const T *A, float *absmax, uint8_t *out, long long blocksize, long long n
#define BNB_ARGS_DEQUANTIZE_BLOCKWISE_CPU(T) \
  const float *code, const uint8_t *A, const float *absmax, T *out, long long blocksize, long long n

#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE_CPU(T));
BNB_FLOATS(BNB_DECLARE, cquantize_blockwise_cpu)
#undef BNB_DECLARE
#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE_CPU(T));
BNB_FLOATS(BNB_DECLARE, cdequantize_blockwise_cpu)
#undef BNB_DECLARE

/* out: m rows of n columns. The blocks run over the flat tensor, also where a row is not a whole number of them. */
#define BNB_ARGS_DEQUANTIZE_4BIT_CPU(T) \
  const uint8_t *A, const float *absmax, T *out, long long blocksize, long long m, long long n

#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_4BIT_CPU(T));
BNB_FLOATS(BNB_DECLARE, cdequantize_blockwise_cpu_fp4)
BNB_FLOATS(BNB_DECLARE, cdequantize_blockwise_cpu_nf4)
#undef BNB_DECLARE

/* Two names that only the Rust crate bitsandbytes-sys declares. code is ignored. */
#define BNB_ARGS_DEQUANTIZE_4BIT_RUST \
  const float *code, const uint8_t *A, const float *absmax, float *out, int blocksize, int n
BNB_API bnb_status cdequantize_blockwise_cpu_fp32_fp4(BNB_ARGS_DEQUANTIZE_4BIT_RUST);
BNB_API bnb_status cdequantize_blockwise_cpu_fp32_nf4(BNB_ARGS_DEQUANTIZE_4BIT_RUST);

/* Without scaling: out[i] = index of the entry of code nearest to A[i] (code and ties as above; NaN gets 0), and
 * out[i] = code[A[i]] for any 256 entries. */
BNB_API bnb_status cquantize(const float *code, const float *A, uint8_t *out, int n);
BNB_API bnb_status cdequantize(const float *code, const uint8_t *A, float *out, int n, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * LLM.int8(): compact fp16 matrices of [rows, cols]. An element is an outlier if threshold > 0 and |x| >= threshold. */

/* row_stats[r] = max |A[r, c]| over non-outliers;  out = rne(A * (127 / row_stats[r])), 0 at outliers. Zeroing the
 * other elements of an outlier's column is left to the caller (cquantize_int8_vectorwise of bnb.h can do it). */
BNB_API bnb_status cint8_vector_quant(const bnb_fp16 *A, int8_t *out, float *row_stats, float threshold, int rows,
                                      int cols, void *stream);

/* row_stats alone. */
BNB_API bnb_status cget_row_stats(const bnb_fp16 *A, float *row_stats, float threshold, int rows, int cols,
                                  void *stream);

/* row_stats, and col_stats[c] = max |A[r, c]| over non-outliers. nnz_count_row: [rows + 1] or NULL; entry 0 becomes 0,
 * entry r + 1 the number of outliers in row r, so that its running sum is what cdouble_rowcol_quant takes. */
BNB_API bnb_status cget_col_row_stats(const bnb_fp16 *A, float *row_stats, float *col_stats, int *nnz_count_row,
                                      float threshold, int rows, int cols);

/* out_row = rne(A * (127 / row_stats[r])), out_col = rne(A * (127 / col_stats[c])), both [rows, cols], saturating at
 * +-127, 0 at outliers and where the statistic is 0 or NaN. The outliers themselves go to the sparse matrix
 * (rowidx, colidx, val) in row-major order; the caller reads their number from nnz_row_ptr[rows] and allocates.
 * row_stats, col_stats: inputs, fp32.  nnz_row_ptr: [rows + 1], the running sum of nnz_count_row.
 * If threshold is 0, or the last four pointers are NULL, there is no sparse output. The host reads nnz_row_ptr[rows]. A
 * nnz_row_ptr that does not fit the outliers of A is an error: they would land outside the buffers. (On a GPU the call does not wait
 * to find out, and those that do not fit are left out.) */
BNB_API bnb_status cdouble_rowcol_quant(const bnb_fp16 *A, const float *row_stats, const float *col_stats,
                                        int8_t *out_col, int8_t *out_row, int *rowidx, int *colidx, bnb_fp16 *val,
                                        const int *nnz_row_ptr, float threshold, int rows, int cols);

/* out[r, c] = A[r, c] * (row_stats[r] * col_stats[c]) / (127 * 127) + bias[c].  bias: fp16 [cols] or NULL. */
BNB_API bnb_status cdequant_mm_int32_fp16(const int *A, const float *row_stats, const float *col_stats, bnb_fp16 *out,
                                          const bnb_fp16 *bias, int rows, int cols, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Statistics and small tools */

/* code[i] = the quantile of A at offset + i * (1 - 2 * offset) / 255, for i = 0 .. 255: exact, linear between
 * neighbouring elements (place p * (n - 1) of the sorted array), rounded once. 0 <= offset <= 0.5. NaN in A makes every
 * entry NaN. Nothing is written for n = 0. */
#define BNB_ARGS_ESTIMATE_QUANTILES(T) const T *A, float *code, float offset, int n
BNB_API bnb_status cestimate_quantiles_fp32(BNB_ARGS_ESTIMATE_QUANTILES(bnb_fp32));
BNB_API bnb_status cestimate_quantiles_fp16(BNB_ARGS_ESTIMATE_QUANTILES(bnb_fp16));

/* gnorm_vec[step % 100] = sum of squares of g, summed in float64; all 100 entries if step is 1. step >= 0.
 * (The caller then scales gradients by clip / current, where current = sqrt(gnorm_vec[step % 100]) is above clip, the
 * square root of the wanted percentile of gnorm_vec.) */
#define BNB_ARGS_PERCENTILE_CLIPPING(T) const T *g, float *gnorm_vec, int step, int n
#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##suffix(BNB_ARGS_PERCENTILE_CLIPPING(T));
BNB_FLOATS_OLD(BNB_DECLARE, cpercentile_clipping_g)
#undef BNB_DECLARE

/* histogram[index1[i] * maxidx1 + index2[i]] += source[i], for i = 0 .. n - 1 in that order.
 * maxidx1: length of a row. An index1 < 0, or an index2 outside [0, maxidx1), is an error; on a GPU, its element is left out. */
BNB_API bnb_status chistogram_scatter_add_2d(float *histogram, const int *index1, const int *index2,
                                             const float *source, int maxidx1, int n);

BNB_API bnb_status cfill_fp32(float *A, const float *B, float value, long n); /* A[i] = value; B is ignored */
BNB_API bnb_status cfill_uint8(uint8_t *A, const uint8_t *B, uint8_t value, long n);
BNB_API bnb_status carange_fp32(float *A, const float *B, float value, long n); /* A[i] = i; B and value are ignored */
BNB_API bnb_status c_mul_fp32(float *A, const float *B, float value, long n);   /* A[i] *= B[i]; B may be A itself */

/* ------------------------------------------------------------------------------------------------------------------
 * Memory, contexts, features */

/* `bytes` bytes that host and device both see; NULL for 0 bytes and on failure. bitsandbytes never frees them; bnb_free
 * on the device does. On Metal: of the first device. Without a GPU, or in the CPU library: ordinary memory, of the CPU as a device. */
BNB_API void *cget_managed_ptr(size_t bytes);

/* Starts moving managed memory to a GPU, or to the host for device -1. Without a GPU: nothing to do. */
BNB_API bnb_status cprefetch(void *ptr, size_t bytes, int device);

/* What other functions take as their `context`. Not NULL, the same at every call, never freed. */
BNB_API void *get_context(void);
BNB_API void *get_cusparse(void);

/* true if this CPU has AVX-512 (F, BW, DQ, VL and CD). */
BNB_API bool has_avx512f_cpu(void);

/* Always false. Programs ask it to decide whether to repack weights for gemv_4bit_inference_cpu_{fp4,nf4}_bf16; those work on
 * every CPU, but products with the stored layout are faster here and leave the weights alone. */
BNB_API bool has_avx512bf16_cpu(void);

/* ------------------------------------------------------------------------------------------------------------------
 * Products with 4-bit weights, which are cgemm_4bit of bnb.h. */

/* out = A W^T (+ bias) for A [M, K] and a 4-bit W [N, K] with flat blocks. quant_type: BNB_FP4 or BNB_NF4. If
 * absmax_8bit is not NULL, the scales are nested: absmax_code[absmax_8bit[i]] * absmax[i / 256] + *absmax_offset. */
#define BNB_ARGS_GEMM_4BIT(T)                                                                                \
  const T *A, const uint8_t *B, const float *absmax, const uint8_t *absmax_8bit, const float *absmax_code,   \
      const float *absmax_offset, T *out, const T *bias, int M, int N, int K, int blocksize, int quant_type, \
      void *stream

/* One row times a 4-bit matrix. m is the number of outputs in the first family, n in the second; datatype: the fp32
 * codebook of 16, that of NF4 or FP4, which the host looks at (in a GPU's memory: after waiting for the stream); ldb: bytes of a
 * packed row, k / 2 (k must be even). */
#define BNB_ARGS_GEMM_4BIT_INFERENCE(T)                                                                           \
  int m, int n, int k, const T *A, const uint8_t *B, const float *absmax, const float *datatype, T *out, int lda, \
      int ldb, int ldc, int blocksize, void *stream

#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT(T));
BNB_FLOATS(BNB_DECLARE, cgemm_4bit)
#undef BNB_DECLARE
#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT_INFERENCE(T));
BNB_FLOATS(BNB_DECLARE, cgemm_4bit_inference_naive)
BNB_FLOATS(BNB_DECLARE, cgemv_4bit_inference)
#undef BNB_DECLARE

/* The older form, NF4 in fp16. */
BNB_API bnb_status cgemm_4bit_inference(int m, int n, int k, const bnb_fp16 *A, const uint8_t *B, const float *absmax,
                                        bnb_fp16 *out, int lda, int ldb, int ldc, int blocksize);

/* out [M, N] = x [M, K] times a W in the CPU packing of bitsandbytes: 32 rows interleaved, absmax bf16
 * [K / blocksize, N]. Strides in elements. N must be a multiple of 32, K of blocksize.
 * W is put into the order of the other functions at every call, which takes several times as long as one row's product. */
#define BNB_ARGS_GEMV_4BIT_CPU                                                                                 \
  int64_t M, int64_t N, int64_t K, const bnb_bf16 *x, const uint8_t *w, const bnb_bf16 *absmax, bnb_bf16 *out, \
      int64_t blocksize, int64_t x_stride, int64_t out_stride
BNB_API bnb_status gemv_4bit_inference_cpu_fp4_bf16(BNB_ARGS_GEMV_4BIT_CPU);
BNB_API bnb_status gemv_4bit_inference_cpu_nf4_bf16(BNB_ARGS_GEMV_4BIT_CPU);

/* ------------------------------------------------------------------------------------------------------------------
 * int8 products: cgemm_int8 of bnb.h, with sums in int32 as it has them. `context` is not looked at. */

/* C = op(A) op(B), all column-major as in BLAS: op(A) is m x k, op(B) is k x n, C is m x n in int32, without a C to add to. A
 * matrix is transposed if its flag is set: element (i, j) of op(A) is A[i + j * lda], or A[j + i * lda] transposed. Leading
 * dimensions are at least a column. The batched one does so for i = 0 .. batchCount - 1 at A + i * strideA, B + i * strideB
 * and C + i * strideC (elements; strides >= 0; those of C must not let its matrices overlap).
 * Fastest with A transposed and B not: then both lie along k. */
#define BNB_ARGS_IGEMM                                                                                         \
  void *context, bool transposeA, bool transposeB, int m, int n, int k, const void *A, const void *B, void *C, \
      int lda, int ldb, int ldc
BNB_API bnb_status cigemm(BNB_ARGS_IGEMM);
BNB_API bnb_status cbatched_igemm(BNB_ARGS_IGEMM, long strideA, long strideB, long strideC, int batchCount);

/* C = A^T B, column-major: A is m x k, B is m x n, C is k x n; that is C [n, k] = B [n, m] times A [k, m] with rows every ldc, ldb and
 * lda elements: m = inner dimension, n = tokens, k = output features. C is int32; or int8: sums, times row_scale[i] for
 * output feature i in the last one, rounded half to even and saturated to -128 .. 127. These three return what theirs
 * return, whose callers look at it: 0 done, 1 failed. (100, not implemented, does not happen.) */
#define BNB_ARGS_IGEMMLT                                                                                          \
  void *context, int m, int n, int k, const int8_t *A, const int8_t *B, void *C, const float *row_scale, int lda, \
      int ldb, int ldc, void *stream
BNB_API int cigemmlt_32(BNB_ARGS_IGEMMLT);
BNB_API int cigemmlt_8(BNB_ARGS_IGEMMLT);
BNB_API int cigemmlt_8_rowscale(BNB_ARGS_IGEMMLT);

/* ------------------------------------------------------------------------------------------------------------------
 * Sparse products: cgemm_coo of bnb.h. Indices outside the matrix are an error; on a GPU, their values are left out. */

/* C = A B for a sparse A [A_rows, A_cols] in coordinate form and a dense B, row-major: B is [A_cols, B_cols], or with transposed_B
 * [B_cols, A_cols] of which the transpose is meant, rows every ldb elements; C is [A_rows, B_cols], rows every ldc. */
BNB_API bnb_status cspmm_coo(void *context, const int *A_rowidx, const int *A_colidx, const bnb_fp16 *A_vals, int A_nnz,
                             int A_rows, int A_cols, int B_cols, int ldb, const bnb_fp16 *B, int ldc, bnb_fp16 *C,
                             bool transposed_B);

/* out [rowsA, colsB] += S B for a sparse S of nnz values and a compact B [rowsB, colsB]. An int8 B counts as
 * B[k, n] * dequant_stats[n] / 127, or as it is if dequant_stats is NULL; the fp16 one does not look at them. Nor are max_count,
 * max_idx, offset_rowidx and nnz_rows looked at, which tell bitsandbytes how to share out the rows. */
#define BNB_ARGS_SPMM_COO_NAIVE(T)                                                                                     \
  const int *max_count, const int *max_idx, const int *offset_rowidx, const int *rowidx, const int *colidx,            \
      const bnb_fp16 *values, const T *B, bnb_fp16 *out, const float *dequant_stats, int nnz_rows, int nnz, int rowsA, \
      int rowsB, int colsB
BNB_API bnb_status cspmm_coo_very_sparse_naive_fp16(BNB_ARGS_SPMM_COO_NAIVE(bnb_fp16));
BNB_API bnb_status cspmm_coo_very_sparse_naive_int8(BNB_ARGS_SPMM_COO_NAIVE(int8_t));

/* ------------------------------------------------------------------------------------------------------------------
 * Optimizer steps: coptimizer_update_32bit and coptimizer_update_8bit of bnb.h, one tensor of n elements at a time.
 *
 * State pointers that an optimizer has no use for may be NULL or anything. Decoupled weight decay comes before the update,
 * gradient scale and coupled weight decay reach states and parameters (docs/optimizers.md). */

/* c<optimizer>32bit_grad_<suffix>: states in fp32. unorm: fp32 [1], becomes the norm of the update, or NULL; max_unorm
 * and param_norm are looked at only if it is there, and a param_norm of 0 is measured. */
#define BNB_ARGS_OPTIMIZER_32BIT(T)                                                                                \
  const T *g, T *p, float *state1, float *state2, float *unorm, float max_unorm, float param_norm, float beta1,    \
      float beta2, float beta3, float alpha, float eps, float weight_decay, int step, float lr, float gnorm_scale, \
      bool skip_zeros, int n
#define BNB_OPTIMIZERS_32BIT(X)                                                                      \
  BNB_FLOATS(X, adam)                                                                                \
  BNB_FLOATS(X, lion) BNB_FLOATS(X, ademamix) BNB_FLOATS_OLD(X, momentum) BNB_FLOATS_OLD(X, rmsprop) \
      BNB_FLOATS_OLD(X, adagrad)

#define BNB_DECLARE(family, suffix, T) BNB_API bnb_status c##family##32bit_grad_##suffix(BNB_ARGS_OPTIMIZER_32BIT(T));
BNB_OPTIMIZERS_32BIT(BNB_DECLARE)
#undef BNB_DECLARE

/* c<optimizer>_8bit_blockwise_grad_<suffix>: states in 8 bits, blocks of 256. quantiles: the code of each state. Adam and
 * AdEMAMix leave elements alone whose gradient is NaN or infinite. */
#define BNB_ARGS_OPTIMIZER_8BIT(T)                                                                                   \
  T *p, const T *g, uint8_t *state1, uint8_t *state2, float beta1, float beta2, float beta3, float alpha, float eps, \
      int step, float lr, const float *quantiles1, const float *quantiles2, float *absmax1, float *absmax2,          \
      float weight_decay, float gnorm_scale, bool skip_zeros, int n
#define BNB_OPTIMIZERS_8BIT(X) \
  BNB_FLOATS(X, adam)          \
  BNB_FLOATS(X, momentum) BNB_FLOATS(X, rmsprop) BNB_FLOATS(X, adagrad) BNB_FLOATS(X, lion) BNB_FLOATS(X, ademamix)

#define BNB_DECLARE(family, suffix, T) \
  BNB_API bnb_status c##family##_8bit_blockwise_grad_##suffix(BNB_ARGS_OPTIMIZER_8BIT(T));
BNB_OPTIMIZERS_8BIT(BNB_DECLARE)
#undef BNB_DECLARE

#ifdef __cplusplus
}
#endif
#endif /* BNB_BITSANDBYTES_H_ */
