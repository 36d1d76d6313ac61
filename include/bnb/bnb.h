/* SPDX-License-Identifier: MIT */
/* libbnb: k-bit quantization for everyone. This header is the C ABI and its manual.
 *
 * TWO KINDS OF FUNCTIONS
 *   c<verb>_<noun>   operations on tensors, described by DLTensor (see dlpack.h)
 *   bnb_<verb>       services: versions, errors, devices, instruction sets, threads, memory
 *
 * RULES THAT HOLD FOR EVERY OPERATION
 *   Status    Returns a bnb_status. On anything but BNB_OK nothing was written to any output, and bnb_last_error()
 *             names the function, the argument, what it got and what it wants. (Only BNB_ERROR_DEVICE, reported by a
 *             GPU while it ran, can leave outputs partly written.)
 *   Tensors   Inputs are `const DLTensor *`. The caller owns every descriptor and every buffer; nothing is kept after the
 *             call. All tensors of one call are on one device; the call runs on that device. Tensors are compact and
 *             row-major (strides NULL, or equal to the compact ones) unless the function says "rows may be strided".
 *             Data pointers may be unaligned (on Metal each is an id<MTLBuffer>, or an address in managed memory). An output
 *             must not overlap an input or another output.
 *             Dimensions are int64_t: more than 2^31 elements work. Empty tensors are fine and their data may be NULL.
 *   Floats    "a float dtype" is fp32, fp16 or bf16. Arithmetic is IEEE fp32, round to nearest even, subnormals kept,
 *             whatever the caller's floating-point environment; results are rounded once to the output dtype.
 *   Blocks    A tensor is cut, in row-major order and regardless of rows, into blocks of `blocksize` elements; the last
 *             block may be short. nb = ceil(n / blocksize) is the number of blocks of n elements.
 *   Streams   `stream` is the device's queue (cudaStream_t, hipStream_t, MTLCommandQueue) or NULL for its default one.
 *             GPU work is queued, never waited for. The CPU ignores it and is done on return.
 *   Threads   Any function may be called from any thread at any time, and after fork() on both sides. Nothing is allocated
 *             that outlives the call; nothing throws, prints, exits or aborts.
 *   Bits      Codes, scales and dequantized values are EXACT: the same bits on every instruction set, thread count
 *             and device (docs/kernels.md).
 *
 * WHAT HAPPENS TO UNUSUAL VALUES (all formats that scale by absmax = max |x| of a block or row)
 *   zeros     absmax 0, codes of zero; dequantizes to zeros
 *   NaN       absmax becomes NaN: the block dequantizes to NaN
 *   infinity  absmax becomes infinity: infinite elements come back infinite with their sign, the others as NaN
 *   otherwise x' = x * (1 / absmax) in fp32, or x / absmax where that reciprocal overflows. */
#ifndef BNB_BNB_H_
#define BNB_BNB_H_

#ifndef BNB_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

#include "dlpack.h"

#ifndef BNB_API
#if defined(_WIN32) && defined(BNB_BUILDING)
#define BNB_API __declspec(dllexport)
#elif defined(_WIN32) && !defined(BNB_STATIC)
#define BNB_API __declspec(dllimport)
#elif defined(__GNUC__) && defined(BNB_BUILDING)
#define BNB_API __attribute__((visibility("default")))
#else
#define BNB_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#define BNB_ENUM(name) enum name : int32_t /* so that every int32_t is a value of it */
#else
#define BNB_ENUM(name) enum name
#endif

/* Raised when a function changes its meaning or its arguments; adding functions does not raise it. It is the library's
 * soname version, too. Compare with bnb_abi_version() after loading the library at run time. */
enum { BNB_ABI_VERSION = 1 };

typedef BNB_ENUM(bnb_status) {
  BNB_OK = 0,
  BNB_ERROR_INVALID_ARGUMENT = 1, /* an argument is wrong; calling again cannot help */
  BNB_ERROR_UNSUPPORTED = 2,      /* a right call that this library, device or instruction set has no kernel for */
  BNB_ERROR_OUT_OF_MEMORY = 3,    /* host or device memory ran out */
  BNB_ERROR_DEVICE = 4,           /* a GPU or its driver reported an error; the message carries its own words */
  BNB_ERROR_INTERNAL = 5          /* a defect of libbnb: please report it */
} bnb_status;

/* Formats that store one code per element. FP4 and NF4 have the numbers that bitsandbytes gives them. */
typedef BNB_ENUM(bnb_quant_type) {
  BNB_FP4 = 1,           /* 4-bit float of bitsandbytes (values 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1 and negatives) */
  BNB_NF4 = 2,           /* 4-bit NormalFloat, QLoRA (arXiv:2305.14314), appendix E */
  BNB_FP8_E4M3FN = 3,    /* OCP 8-bit float, max 448, no infinity */
  BNB_FP8_E5M2 = 4,      /* OCP 8-bit float, max 57344, with infinity */
  BNB_TERNARY = 5,       /* -1, 0, 1 in two bits, BitNet b1.58 (arXiv:2402.17764); scales apart */
  BNB_TQ1_0 = 6,         /* the same as GGUF's blocks of 256: 1.69 bits a weight, scale included */
  BNB_TQ2_0 = 7,         /* the same as GGUF's blocks of 256: 2.06 bits a weight, scale included */
  BNB_MXFP4 = 8,         /* OCP microscaling: FP4 (E2M1) in blocks of 32 with a power of two for a scale (E8M0) */
  BNB_MXFP8_E4M3FN = 9,  /* OCP microscaling with FP8 elements */
  BNB_MXFP8_E5M2 = 10,   /* OCP microscaling with FP8 elements */
  BNB_NVFP4 = 11         /* FP4 (E2M1) in blocks of 16 with an FP8 (E4M3) scale, and one fp32 scale for all of them */
} bnb_quant_type;

/* ------------------------------------------------------------------------------------------------------------------
 * 8-bit blockwise quantization (arXiv:2110.02861): each block is divided by its absmax, each element becomes the
 * index of the nearest of 256 values. */

/* A: float dtype, n elements.  code: fp32, 256 finite entries in ascending order (equal neighbours allowed).
 * blocksize: elements, >= 1.  out: uint8, n elements.  absmax: fp32, nb elements.
 * "Nearest" is decided against the fp32 midpoints (code[i] + code[i+1]) * 0.5; a tie goes to the lower index. */
BNB_API bnb_status cquantize_blockwise(const DLTensor *A, const DLTensor *code, int64_t blocksize, DLTensor *out,
                                       DLTensor *absmax, void *stream);

/* out[i] = code[A[i]] * absmax[i / blocksize].
 * A: uint8, n elements.  absmax: fp32, nb elements.  code: fp32, 256 entries, any values.  out: float dtype, n. */
BNB_API bnb_status cdequantize_blockwise(const DLTensor *A, const DLTensor *absmax, const DLTensor *code,
                                         int64_t blocksize, DLTensor *out, void *stream);

/* Writes the 256 fp32 entries of a dynamic map (section 2.1 of the paper), the usual code: with is_signed 1 the one for
 * any values, with 0 the one for values that are never negative. bitsandbytes computes these with PyTorch and its entries
 * vary by an ulp or two from host to host; these never do. code: 256 floats of host memory. */
BNB_API bnb_status bnb_create_dynamic_map(int32_t is_signed, float *code);

/* ------------------------------------------------------------------------------------------------------------------
 * Nested ("double") quantization: the absmax of a quantized tensor, itself quantized blockwise after its mean was
 * taken off (arXiv:2305.14314, section 3). */

/* How a compressed absmax is read: absmax[i] = code[codes[i]] * nested.absmax[i / nested.blocksize] + offset, the product
 * rounded to fp32 before the sum. The uint8 codes travel as the `absmax` argument of the function that takes a bnb_nested. */
typedef struct bnb_nested {
  const DLTensor *code;   /* fp32, 256 entries */
  const DLTensor *absmax; /* fp32, ceil(nb / blocksize) elements */
  const DLTensor *offset; /* fp32, one element */
  int64_t blocksize;      /* elements of absmax per nested block; bitsandbytes uses 256 */
} bnb_nested;

/* offset = mean of absmax, accumulated in float64 and rounded once; then cquantize_blockwise of absmax - offset.
 * absmax: fp32, nb elements.  code: as in cquantize_blockwise.  blocksize: >= 1.  out: uint8, nb elements.
 * nested_absmax: fp32, ceil(nb / blocksize) elements.  offset: fp32, one element (0 for an empty absmax). */
BNB_API bnb_status cquantize_nested(const DLTensor *absmax, const DLTensor *code, int64_t blocksize, DLTensor *out,
                                    DLTensor *nested_absmax, DLTensor *offset, void *stream);

/* The inverse. A: uint8, nb elements.  nested: see above.  out: fp32, nb elements. */
BNB_API bnb_status cdequantize_nested(const DLTensor *A, const bnb_nested *nested, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * 4-bit quantization: NF4 and FP4. Two codes a byte, element 2i in the HIGH nibble, element 2i+1 in the low one; a missing
 * last element is the code of zero. Codebooks and thresholds: docs/formats.md. */

/* A: float dtype, n elements.  quant_type: BNB_FP4 or BNB_NF4.  blocksize: even, >= 2.
 * out: any dtype of 1, 2, 4 or 8 bytes (bitsandbytes' quant_storage), (n + 1) / 2 bytes rounded up to whole items; the
 * bytes behind the last code are zero.  absmax: fp32, nb elements. */
BNB_API bnb_status cquantize_4bit(const DLTensor *A, bnb_quant_type quant_type, int64_t blocksize, DLTensor *out,
                                  DLTensor *absmax, void *stream);

/* out[i] = codebook[nibble i] * absmax[i / blocksize].
 * A: the packed bytes.  absmax: fp32, nb elements; or uint8 if nested is not NULL.  out: float dtype, n elements. */
BNB_API bnb_status cdequantize_4bit(const DLTensor *A, const DLTensor *absmax, const bnb_nested *nested,
                                    bnb_quant_type quant_type, int64_t blocksize, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * FP8: blocks scaled so that the largest magnitude is the largest finite value of the format. One scale per row of a
 * matrix is a blocksize of one row. */

/* scale = absmax / max_finite;  out = round-to-nearest-even, saturating, of x * (1 / scale).
 * A: float dtype, n elements.  quant_type: BNB_FP8_E4M3FN or BNB_FP8_E5M2.  blocksize: >= 1.
 * out: uint8 or the matching float8 dtype, n elements.  scale: fp32, nb elements. */
BNB_API bnb_status cquantize_fp8(const DLTensor *A, bnb_quant_type quant_type, int64_t blocksize, DLTensor *out,
                                 DLTensor *scale, void *stream);

/* out[i] = decode(A[i]) * scale[i / blocksize].  The same tensors as above; out is a float dtype. */
BNB_API bnb_status cdequantize_fp8(const DLTensor *A, const DLTensor *scale, bnb_quant_type quant_type,
                                   int64_t blocksize, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Ternary weights: each becomes -1, 0 or 1, times the scale of its block. Codes are t + 1; where they lie: docs/formats.md. */

/* Which number the weights of a block are divided by, its scale, and where a half goes. */
typedef BNB_ENUM(bnb_ternary_scale) {
  BNB_ABSMEAN = 0, /* mean |A| of the block, to nearest even: BitNet b1.58 (arXiv:2402.17764) */
  BNB_ABSMAX = 1   /* max |A| of the block, halves away from zero: what GGUF's own quantizers do */
} bnb_ternary_scale;

/* t = round of A / scale, limited to -1 .. 1.  A: float dtype, n elements.  blocksize: weights per scale, >= 1, cut regardless of
 * rows; n or more for one scale for the whole tensor.
 *   BNB_TERNARY             out: uint8 or int8, (n + 3) / 4 bytes, element 4i + j in bits 2j and 2j + 1 of byte i; missing last
 *                           elements are zeros (code 1).  scale: fp32, nb elements.
 *   BNB_TQ1_0, BNB_TQ2_0    A's last dimension and blocksize are multiples of 256 (blocksize may also be n or more).
 *                           out: uint8, 54 or 66 bytes for every 256 weights, with the scale rounded to fp16 inside (infinite above
 *                           65504, as GGUF has it).  scale: NULL, or fp32, nb elements, which get the scales as they were.
 * A mean is summed in float64, in an order that does not depend on threads or instruction set, and rounded to fp32 once.
 * Unusual values: as at the head of this file, with the scale for absmax. */
BNB_API bnb_status cquantize_ternary(const DLTensor *A, bnb_quant_type quant_type, bnb_ternary_scale rule, int64_t blocksize,
                                     DLTensor *out, DLTensor *scale, void *stream);

/* out[i] = t[i] * scale[i / blocksize].  A: the bytes of cquantize_ternary.  out: float dtype, n elements.
 * BNB_TQ1_0, BNB_TQ2_0: scale is NULL and blocksize not looked at, as blocks carry their scales; out's last dimension is a multiple
 * of 256. Code 3 in two bits, which no quantizer writes, counts as 2. */
BNB_API bnb_status cdequantize_ternary(const DLTensor *A, const DLTensor *scale, bnb_quant_type quant_type, int64_t blocksize,
                                       DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * OCP microscaling (MX specification 1.0; arXiv:2310.10537) and NVFP4: short blocks along the last dimension, with scales of
 * 8 bits. MXFP4 and NVFP4 have FP4 elements (E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and negatives), two a byte, element 2i in the LOW
 * nibble, as OCP and PyTorch have them and NF4 has not; MXFP8 has elements of FP8. Scales:
 *   MX      blocks of 32; a power of two, E8M0: code e means 2^(e - 127), 0xFF is NaN
 *   NVFP4   blocks of 16; an FP8 (E4M3FN) number, times an fp32 scale of the whole tensor */

/* How the scale 2^e of an MX block follows from absmax, its largest magnitude, where the largest power of two among the
 * elements' values is 2^E (E = 2, 8, 15 for E2M1, E4M3FN, E5M2) and their largest value is L (6, 448, 57344). The names are
 * torchao's. e is cut to -127 .. 127; elements beyond L become L. */
typedef BNB_ENUM(bnb_mx_scale) {
  BNB_MX_FLOOR = 0, /* e = floor(log2(absmax)) - E: OCP's own rule. The largest elements may be cut */
  BNB_MX_CEIL = 1,  /* e = ceil(log2(absmax)) - E */
  BNB_MX_EVEN = 2,  /* FLOOR of absmax rounded to as many bits as elements have, halves up */
  BNB_MX_RCEIL = 3  /* e = ceil(log2(absmax / L)), the quotient in fp32: the least scale that cuts nothing */
} bnb_mx_scale;

/* MX:     out = round-to-nearest-even, saturating, of x * 2^-e.
 * NVFP4:  tensor_scale = absmax of A / (448 * 6);  scale = rne((absmax of the block / 6) / tensor_scale), at least 2^-6 and at most
 *         448;  out = round-to-nearest-even, saturating, of x * ((1 / tensor_scale) / scale), or of (x / tensor_scale) / scale where
 *         that factor overflows. Every operation is rounded to fp32. Without a tensor_scale, it is 1.
 * A: float dtype, any shape whose last dimension is a multiple of the block.  quant_type: BNB_MXFP4, BNB_MXFP8_E4M3FN,
 * BNB_MXFP8_E5M2 or BNB_NVFP4.  rule: for MX; NVFP4 takes BNB_MX_FLOOR and ignores it.
 * out: FP4: uint8 or float4_e2m1fn_x2, n / 2 elements; FP8: uint8 or the matching float8 dtype, n elements.
 * scale: uint8 or float8_e8m0fnu (NVFP4: float8_e4m3fn), one element per block.
 * tensor_scale: NVFP4: NULL, or fp32, one element. NULL for MX.
 * Zeros keep their sign. A block of zeros has scale 2^-127 (NVFP4: 2^-6; a tensor of zeros: tensor_scale 0).
 * An MX block with NaN or infinity has scale NaN (0xFF) and codes of zero: it dequantizes to NaN. NVFP4 without a tensor_scale
 * likewise (0x7F). With one, the tensor is what a block is elsewhere: NaN anywhere makes tensor_scale and all of it NaN; infinity
 * makes tensor_scale infinite, infinite elements come back infinite with their sign and the others NaN; codes are those of zero
 * but for infinite elements, scales 2^-6. */
BNB_API bnb_status cquantize_mx(const DLTensor *A, bnb_quant_type quant_type, bnb_mx_scale rule, DLTensor *out,
                                DLTensor *scale, DLTensor *tensor_scale, void *stream);

/* out[i] = decode(A[i]) * scale[i / block], where the scale of NVFP4 is decode(scale) * tensor_scale, rounded to fp32.
 * The same tensors as above (tensor_scale NULL: 1); out is a float dtype and n a multiple of the block. EXACT, and for MX and fp32
 * without any rounding but at 2^-126 and below. */
BNB_API bnb_status cdequantize_mx(const DLTensor *A, const DLTensor *scale, const DLTensor *tensor_scale,
                                  bnb_quant_type quant_type, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * LLM.int8() (arXiv:2208.07339): rows of a matrix scaled to -127 .. 127, round half to even. */

/* row_stats[r] = max |A[r, c]| over the elements below the threshold;  out = rne(A * (127 / row_stats[r])).
 * An element is an outlier if threshold > 0 and |A| >= threshold; outliers become 0 in out.
 * A: float dtype, [rows, cols], rows may be strided.  threshold: >= 0, 0 switches outliers off.  out: int8, [rows, cols].
 * row_stats: fp32, [rows].  outlier_cols: NULL, or uint8 [cols] that becomes 1 for every column with an outlier and 0 for
 * the others; if it is given, those columns become 0 in every row of out (they go through a product of their own). */
BNB_API bnb_status cquantize_int8_vectorwise(const DLTensor *A, float threshold, DLTensor *out, DLTensor *row_stats,
                                             DLTensor *outlier_cols, void *stream);

/* out[r, c] = A[r, c] * row_stats[r] * (1 / 127).
 * A: int8, [rows, cols], rows may be strided.  row_stats: fp32, [rows].  out: float dtype, [rows, cols]. */
BNB_API bnb_status cdequantize_int8_vectorwise(const DLTensor *A, const DLTensor *row_stats, DLTensor *out,
                                               void *stream);

/* The same by rows and, a second time, by columns (col_stats[c] = max |A[r, c]| over non-outliers), as the backward pass
 * of LLM.int8() needs.  out_row, out_col: int8, [rows, cols].  row_stats: fp32, [rows].  col_stats: fp32, [cols].
 * outlier_cols as above, for out_row; out_col has zeros at outliers only. */
BNB_API bnb_status cquantize_int8_double(const DLTensor *A, float threshold, DLTensor *out_row, DLTensor *out_col,
                                         DLTensor *row_stats, DLTensor *col_stats, DLTensor *outlier_cols,
                                         void *stream);

/* The scaling behind an int8 product: out[r, c] = A[r, c] * (row_stats[r] * col_stats[c]) * (1 / (127 * 127)) + bias[c].
 * A: int32, [rows, cols].  row_stats: fp32, [rows].  col_stats: fp32, [cols].  bias: NULL or float dtype, [cols].  out: float, as A. */
BNB_API bnb_status cdequantize_int8_mm(const DLTensor *A, const DLTensor *row_stats, const DLTensor *col_stats,
                                       const DLTensor *bias, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Products with quantized weights. Weights stay packed as their quantizer wrote them: nothing is kept between calls, and what
 * a call needs beside its arguments it allocates and frees (BNB_ERROR_OUT_OF_MEMORY if it cannot).
 *
 * EXACTNESS. With w the dequantized weights (the fp32 values that dequantizing them gives), S = sum of |a * w| over K,
 * plus |bias|, and u = 2^-24, 2^-11, 2^-8 for an output in fp32, fp16, bf16:
 *   |out - (sum of a * w + bias)|  <=  u * |out| + (w_error + (K + 8) * 2^-24) * S
 *                                        + 2^-125 * sum of (1 + |a|) * (1 + L)      (and for out in fp16 + 2^-25)
 * w_error is 0 for fp32 activations, 2^-15 (on GPUs 2^-11) for fp16 and 2^-8 for bf16 ones: what weights are rounded to where products
 * are of such a type (docs/kernels.md has each); elsewhere it is 0. L is the largest |w| that the scales allow: max |scale| times the
 * largest value of the format (1 for 4-bit codes). Results depend on the shapes and on the instruction set or device, never on the number
 * of threads. Outputs that an infinity or NaN reaches are infinite or NaN; with an S, sum of |a| or of |a * code| of 2^127 they may be. */

/* out = A @ dequantize(B)^T + bias, the product of a linear layer with NF4 or FP4 weights.
 * A: float dtype, [M, K], rows may be strided.  B: the packed codes of [N, K], as cquantize_4bit writes them: any dtype of 1,
 * 2, 4 or 8 bytes and any shape; blocks run over rows' ends where K is no multiple of blocksize (K may be odd, too).
 * absmax: fp32, one element per block; or uint8 if nested is not NULL.  bias: NULL or float dtype, [N].
 * out: the dtype of A, [M, N], rows may be strided.
 * Fastest where K is a multiple of blocksize and blocksize a multiple of 32; any other shape takes about twice as long (more
 * where bf16 activations would otherwise have had the tile unit of the CPU). */
BNB_API bnb_status cgemm_4bit(const DLTensor *A, const DLTensor *B, const DLTensor *absmax, const bnb_nested *nested,
                              bnb_quant_type quant_type, int64_t blocksize, const DLTensor *bias, DLTensor *out,
                              void *stream);

/* The same with FP8 weights. B: uint8 or the matching float8 dtype, [N, K], as cquantize_fp8 writes them.
 * scale: fp32, one element per block of `blocksize` elements of B; one scale per row is a blocksize of K.
 * quant_type: BNB_FP8_E4M3FN or BNB_FP8_E5M2.  blocksize: >= 1.  A, bias, out: as above.
 * Fastest where K is the blocksize, or a multiple of it and it one of 64. */
BNB_API bnb_status cgemm_fp8(const DLTensor *A, const DLTensor *B, const DLTensor *scale, bnb_quant_type quant_type,
                             int64_t blocksize, const DLTensor *bias, DLTensor *out, void *stream);

/* The same with MXFP4, MXFP8 or NVFP4 weights. B: [N, K / 2] bytes or float4_e2m1fn_x2, or [N, K] of FP8, as cquantize_mx writes
 * them; K is a multiple of the block.  scale, tensor_scale, quant_type: as in cdequantize_mx.  A, bias, out: as above.
 * Weights are numbers of bf16 but for tensor_scale, which the sums get: w_error is 0 for all activations. (A weight of 2^128 or
 * more counts as infinite or as what it is.) */
BNB_API bnb_status cgemm_mx(const DLTensor *A, const DLTensor *B, const DLTensor *scale, const DLTensor *tensor_scale,
                            bnb_quant_type quant_type, const DLTensor *bias, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * LLM.int8() products: int8 times int8, summed in int32, exactly. K is at most 131071, the most products of -128 .. 127 whose
 * sum always fits in int32; more is an error. Rows of int8 matrices, of A and of out may be strided. */

/* out = A @ B^T, all bits of it.  A: int8, [M, K].  B: int8, [N, K].  out: int32, [M, N]. */
BNB_API bnb_status cgemm_int8(const DLTensor *A, const DLTensor *B, DLTensor *out, void *stream);

/* out[m, n] = (A @ B^T)[m, n] * (row_stats[m] * col_stats[n]) * (1 / (127 * 127)) + bias[n], which is cdequantize_int8_mm of
 * the product above without a place for it. EXACT: the same bits as those two calls, on every instruction set.
 * A: int8, [M, K].  B: int8, [N, K].  row_stats: fp32, [M].  col_stats: fp32, [N].  bias: NULL or float dtype, [N].  out: float, [M, N]. */
BNB_API bnb_status cgemm_int8_scaled(const DLTensor *A, const DLTensor *B, const DLTensor *row_stats,
                                     const DLTensor *col_stats, const DLTensor *bias, DLTensor *out, void *stream);

/* The product of LLM.int8() with operands that are quantized already: what cgemm_int8_scaled gives for CA and CB, plus
 * A[:, outlier_cols] @ W[:, outlier_cols]^T, where W = CB * col_stats * (1 / 127) is what cdequantize_int8_vectorwise gives.
 * A: float dtype, [M, K]; only its outlier columns are read.  CA: int8, [M, K]; its outlier columns are zero if they are not to
 * count twice.  CB: int8, [N, K].  row_stats: fp32, [M].  col_stats: fp32, [N].  outlier_cols: NULL, or int64, any number of
 * columns of A, ascending.  bias: NULL or float dtype, [N].  out: float dtype, [M, N].
 * With J outlier columns, S = |the scaled int8 product| + the sum of |a * w| over them + |bias|, and u as for cgemm_4bit:
 *   |out - exact|  <=  u * |out| + (J + 8) * 2^-24 * S + 2^-125 * (J + 1) * (1 + max |a|)   (and for out in fp16 + 2^-25)
 * and without outlier columns it is EXACT. */
BNB_API bnb_status cgemm_int8_mixed(const DLTensor *A, const DLTensor *CA, const DLTensor *CB, const DLTensor *row_stats,
                                    const DLTensor *col_stats, const DLTensor *outlier_cols, const DLTensor *bias,
                                    DLTensor *out, void *stream);

/* The linear layer of LLM.int8() in one call: cquantize_int8_vectorwise of A with threshold and outlier columns, then
 * cgemm_int8_mixed of the result with these columns. The same bits as those two calls; nothing is kept.
 * A: float dtype, [M, K].  CB: int8, [N, K].  SCB: fp32, [N], the statistics of its rows.  threshold: >= 0, 0 switches
 * outliers off.  bias: NULL or float dtype, [N].  out: the dtype of A, [M, N]. */
BNB_API bnb_status clinear_int8(const DLTensor *A, const DLTensor *CB, const DLTensor *SCB, float threshold,
                                const DLTensor *bias, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Products of int8 activations with ternary weights. */

/* out[m, n] = (sum over the blocks of row n of scale * (int32 sum of A[m, k] * t[n, k])) * (row_stats[m] * (1 / 127)) + bias[n].
 * A: int8, [M, K], rows may be strided, as cquantize_int8_vectorwise writes it; K <= 8388607.  row_stats: fp32, [M], or one element.
 * B: the codes of [N, K] as cquantize_ternary writes them, in any shape.  scale: fp32, one element per block of `blocksize` weights,
 * which divides K, is a multiple of it, or at least N * K; TQ types: NULL, blocksize is not looked at, K is a multiple of 256.
 * bias: NULL or float dtype, [N].  out: float dtype, [M, N], rows may be strided.
 * One scale for a row or for more: EXACT, out = fp32(sum) * (row_stats[m] * scale) * (1 / 127) + bias[n], in this order.
 * Smaller blocks: with G blocks in a row, a = A[m, k] * row_stats[m] / 127, w = t * scale, L = max |scale|, S and u as for cgemm_4bit:
 *   |out - exact|  <=  u * |out| + (G + 8) * 2^-24 * S + 2^-125 * K * (1 + row_stats[m]) * (1 + L)   (and for out in fp16 + 2^-25)
 * and an S, or a sum of |A * w|, of 2^127 or more may make it infinite or NaN. Fastest in blocks that are multiples of 64. */
BNB_API bnb_status cgemm_ternary(const DLTensor *A, const DLTensor *B, const DLTensor *row_stats, const DLTensor *scale,
                                 bnb_quant_type quant_type, int64_t blocksize, const DLTensor *bias, DLTensor *out, void *stream);

/* The layer of BitNet: A (float dtype, [M, K], rows may be strided) becomes int8 as by cquantize_int8_vectorwise, each row (per_tensor 0)
 * or all of it as if it were one (1); then cgemm_ternary. The same bits as those two calls. out: the dtype of A, [M, N]. */
BNB_API bnb_status clinear_ternary(const DLTensor *A, const DLTensor *B, const DLTensor *scale, bnb_quant_type quant_type,
                                   int64_t blocksize, int32_t per_tensor, const DLTensor *bias, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Sparse times dense. */

/* out = S @ B, or S @ B^T if transposed_B is 1, for a sparse S in coordinate form: S[rowidx[i], colidx[i]] = values[i], places in
 * any order, values of the same place added up. (cspmm_coo is bitsandbytes' name, with its arguments: see bitsandbytes.h.)
 * rowidx, colidx: int32, [nnz], in 0 .. M - 1 and 0 .. K - 1 (others are an error; a GPU, for which nobody waits, leaves such values
 * out).  values: float dtype or int8, [nnz].
 * values_scale: NULL, or fp32, one element: every value is multiplied by it, rounded to fp32 (absmax / 127 for int8 values).
 * B: float dtype or int8, [K, N], or [N, K] if transposed_B is 1; rows may be strided.
 * col_stats: NULL, or fp32, [N], for int8 B: B counts as B[k, n] * col_stats[n] * (1 / 127), each product rounded to fp32.
 * out: float dtype, [M, N], rows may be strided. Rows without values become zeros.
 * With J values in a row of S, and S and u as for cgemm_4bit:
 *   |out - exact|  <=  u * |out| + (J + 8) * 2^-24 * S + 2^-125 * (J + 1)   (and for out in fp16 + 2^-25) */
BNB_API bnb_status cgemm_coo(const DLTensor *rowidx, const DLTensor *colidx, const DLTensor *values,
                             const DLTensor *values_scale, const DLTensor *B, const DLTensor *col_stats,
                             int32_t transposed_B, DLTensor *out, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Optimizers: one pass over parameters, gradients and states; states in fp32, or in 8 bits blockwise (arXiv:2110.02861).
 * The formulas are in docs/optimizers.md. A call works through a list of tensors, so that a model of thousands of small
 * ones costs one call; all of it is checked before anything is written. */

/* The first seven have the numbers of bitsandbytes. LAMB is Adam and LARS is momentum: what makes them is max_unorm. */
typedef BNB_ENUM(bnb_optimizer) {
  BNB_ADAM = 0,     /* Adam and AdamW (arXiv:1711.05101)    uses beta1, beta2, eps; state1, state2; decoupled decay */
  BNB_MOMENTUM = 1, /* SGD with momentum                    uses beta1; state1; coupled decay */
  BNB_RMSPROP = 2,  /*                                      uses beta1 (its "alpha"), eps; state1; coupled decay */
  BNB_LARS = 3,     /* arXiv:1708.03888                     as momentum */
  BNB_ADAGRAD = 4,  /*                                      uses eps; state1; coupled decay */
  BNB_LION = 5,     /* arXiv:2302.06675                     uses beta1, beta2; state1; decoupled decay */
  BNB_ADEMAMIX = 6, /* arXiv:2409.03137                     uses beta1 .. beta3, alpha, eps; state1 [2, n], state2; decoupled */
  BNB_LAMB = 7      /* arXiv:1904.00962                     as Adam */
} bnb_optimizer;

/* What happens where a gradient is NaN or infinite. */
typedef BNB_ENUM(bnb_nonfinite) {
  BNB_NONFINITE_PROPAGATE = 0,    /* it is computed with, and states and parameters become NaN or infinite */
  BNB_NONFINITE_SKIP_ELEMENT = 1, /* states and parameter of that element stay what they are */
  BNB_NONFINITE_SKIP_STEP = 2     /* one such gradient anywhere in the call, or found_inf[0] != 0 before it: the call writes
                                     nothing but found_inf. Costs one more read of the gradients */
} bnb_nonfinite;

/* What all tensors of a call share. Numbers are doubles so that 1 - beta is not off by the rounding of beta. */
typedef struct bnb_optimizer_config {
  bnb_optimizer optimizer;
  bnb_nonfinite nonfinite;
  int32_t skip_zeros;  /* 0, or 1: states and parameter of an element whose gradient is 0 stay what they are */
  int32_t reserved;    /* 0 */
  double lr;           /* >= 0 */
  double beta1, beta2; /* [0, 1) where the optimizer uses them */
  double beta3, alpha; /* AdEMAMix: [0, 1) and >= 0, as its schedules have them at this step */
  double eps;          /* >= 0 */
  double weight_decay; /* >= 0 */
  double gnorm_scale;  /* gradients are multiplied by it first: 1, or a clipping factor; -1 maximizes. Any finite number */
  double max_unorm;    /* > 0: the update is scaled down to a norm of max_unorm * norm of the parameter (LAMB, LARS); 0: not */
  const DLTensor *scale; /* NULL, or fp32 [1] on the device of the tensors: multiplied into gnorm_scale without a look from the
                            host (a clipping factor, 1 / the scale of a GradScaler) */
  DLTensor *found_inf;   /* NULL, or fp32 [1]: becomes 1 if a gradient of the call is NaN or infinite, else stays what it was.
                            BNB_NONFINITE_SKIP_STEP needs it */
} bnb_optimizer_config;

/* One parameter: n elements, any shape. What the optimizer does not use is NULL; states of a new parameter are zeros.
 * Tensors of one entry must not overlap; two entries must not share what is written. */
typedef struct bnb_optimizer_tensors {
  const DLTensor *g; /* gradient: float dtype, n elements */
  DLTensor *p;       /* parameter: float dtype, the same as g's or another */
  DLTensor *state1;  /* n elements (AdEMAMix: [2, n], the fast average first): fp32, or uint8 codes */
  DLTensor *state2;  /* n elements of the same dtype: second moments of Adam, AdEMAMix, LAMB */
  DLTensor *absmax1; /* 8-bit: fp32, nb elements (AdEMAMix: [2, nb]) */
  DLTensor *absmax2; /* 8-bit: fp32, nb elements */
  const DLTensor *qmap1; /* 8-bit: the code of state1, as in cquantize_blockwise. Signed but for RMSprop and Adagrad */
  const DLTensor *qmap2; /* 8-bit: the code of state2, unsigned */
  DLTensor *unorm_vec;   /* NULL, or fp32 [1]: becomes the norm of the update if max_unorm > 0 */
  double param_norm;     /* with max_unorm: the norm of the parameter where the caller knows better (a shard of it is here); 0:
                            the call measures it */
  int64_t step;          /* >= 1, this update included */
} bnb_optimizer_tensors;

/* States in fp32. p, state1 and state2 are updated in place. EXACT. */
BNB_API bnb_status coptimizer_update_32bit(const bnb_optimizer_config *config, const bnb_optimizer_tensors *tensors,
                                           int64_t count, void *stream);

/* States in 8 bits: dequantized, updated in fp32 as above, and quantized to the nearest codes as by cquantize_blockwise, with
 * new absmax. blocksize: elements per absmax of every entry, >= 1; bitsandbytes uses 256. EXACT, codes and absmax included.
 * A block in which every element is skipped keeps its codes and absmax. */
BNB_API bnb_status coptimizer_update_8bit(const bnb_optimizer_config *config, const bnb_optimizer_tensors *tensors,
                                          int64_t count, int64_t blocksize, void *stream);

/* Euclidean norms of a list of tensors, for clipping by gnorm_scale or `scale`: one read. Squares are summed in float64, in an
 * order that does not depend on threads or instruction set (docs/optimizers.md).
 * tensors: count tensors of float dtypes.  norms: NULL, or fp32 or float64, [count]: the norm of each.  total: NULL, or fp32 or
 * float64, one element: the norm of all of them together.  found_inf: NULL, or fp32 [1]: becomes 1 if an element of any tensor
 * is NaN or infinite (then so are its norm and the total), else stays what it was. */
BNB_API bnb_status cmeasure_norms(const DLTensor *const *tensors, int64_t count, DLTensor *norms, DLTensor *total,
                                  DLTensor *found_inf, void *stream);

/* ------------------------------------------------------------------------------------------------------------------
 * Services: versions and errors */

BNB_API uint32_t bnb_abi_version(void); /* BNB_ABI_VERSION of the library that answers */
BNB_API const char *bnb_version(void);  /* "major.minor.patch"; a static string */

/* Text of the last error of the calling thread, "" if there was none. Valid until its next failing call. */
BNB_API const char *bnb_last_error(void);
BNB_API const char *bnb_status_name(bnb_status status); /* "INVALID_ARGUMENT" ...; a static string, never NULL */

/* ------------------------------------------------------------------------------------------------------------------
 * Services: what is in this library and what it uses */

/* Backends of this library: index 0 is "cpu", then "cuda", "hip" or "metal" if it was built in. NULL past the last. */
BNB_API const char *bnb_backend_name(int32_t index);

/* Number of devices that the backend can use now (1 for "cpu"); 0 for an unknown name or an absent driver. */
BNB_API int32_t bnb_device_count(const char *backend);

/* Names of the CPU instruction sets in this library, from "reference" to the most capable. NULL past the last. */
BNB_API const char *bnb_isa_name(int32_t index);
BNB_API int32_t bnb_isa_available(const char *name); /* 1 if this CPU and operating system can run it, else 0 */
BNB_API const char *bnb_isa_active(void);            /* the one operations use; NULL if BNB_CPU_ISA is wrong */
BNB_API const char *bnb_isa_reason(void);            /* why that one, in a sentence; a static string */

/* Uses the named instruction set in this process from now on; NULL goes back to the choice made at first use: the most
 * capable one the CPU has, not above the one named by the environment variable BNB_CPU_ISA. For tests and measurements. */
BNB_API bnb_status bnb_set_isa(const char *name);

/* Threads that one operation may use. 0 = the default: BNB_NUM_THREADS, else the CPUs this process may run on
 * (affinity mask and cgroup quota). Results do not depend on it. */
BNB_API bnb_status bnb_set_num_threads(int32_t num_threads);
BNB_API int32_t bnb_get_num_threads(void);

/* ------------------------------------------------------------------------------------------------------------------
 * Services: memory, for callers without a framework */

/* *data = `bytes` bytes on the device, aligned to at least 64; NULL for 0 bytes. Large CPU blocks ask for huge pages. */
BNB_API bnb_status bnb_allocate(DLDevice device, size_t bytes, void **data);
BNB_API bnb_status bnb_free(DLDevice device, void *data); /* NULL is fine */

/* Copies between devices or within one (Metal: from the start of buffers). Queued on the stream; with host memory, done on return. */
BNB_API bnb_status bnb_copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes,
                            void *stream);

BNB_API bnb_status bnb_synchronize(DLDevice device, void *stream); /* waits until the stream's work is done */

/* Memory that host and device both see at one address and the driver pages (bitsandbytes' "paged" optimizers). UNSUPPORTED where the
 * device has none; ordinary memory on the CPU; on Metal the contents of a shared buffer. Free with bnb_free. */
BNB_API bnb_status bnb_allocate_managed(DLDevice device, size_t bytes, void **data);

/* Starts moving managed memory to `to`. A hint: where the driver cannot, it does nothing and returns BNB_OK. */
BNB_API bnb_status bnb_prefetch(const void *data, size_t bytes, DLDevice to, void *stream);

#ifdef __cplusplus
}
#endif
#endif /* BNB_BNB_H_ */
