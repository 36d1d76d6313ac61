// SPDX-License-Identifier: MIT
// bitsandbytes' names for products with 4-bit weights.
#include <cmath>

#include "api/absmax.h"
#include "api/bitsandbytes_call.h"
#include "cpu/threads.h"
#include "formats/fp4.h"
#include "formats/nf4.h"

using namespace bnb;
using namespace bnb::api;

namespace {

constexpr int64_t kNestedBlocksize = 256;

struct Shape {
  int64_t m, n, k, blocksize;
  int64_t weights() const { return n > 0 && k > 0 ? n * k : 0; }
};

// Scales in 8 bits; codes NULL: there are none.
struct NestedScales {
  const uint8_t *codes;
  const float *code, *offset;
};

// out [m, n] = A [m, k] times W [n, k] with flat blocks. absmax is of the scales' codes where there are any.
bnb_status multiply(Pointers &pointers, const char *function, DType dtype, Shape shape, bnb_quant_type quant_type, const void *A,
                    const uint8_t *B, const void *absmax, NestedScales nested, const void *bias, void *out) {
  if (shape.m < 0 || shape.n < 0 || shape.k < 0) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: M, N, K are %lld, %lld, %lld, must not be negative", function,
                (long long)shape.m, (long long)shape.n, (long long)shape.k);
  }
  const int64_t scale_count = blocks(shape.weights(), shape.blocksize);
  Bare a(pointers, dtype, A, shape.m, shape.k), b(pointers, DType::kU8, B, ceil_div(shape.weights(), 2)),
      o(pointers, dtype, out, shape.m, shape.n), bias_tensor(pointers, dtype, bias, shape.n);
  Bare scale_codes(pointers, DType::kU8, nested.codes, scale_count), code(pointers, DType::kF32, nested.code, kCodeSize),
      offset(pointers, DType::kF32, nested.offset, 1);
  Bare scales(pointers, DType::kF32, absmax, nested.codes ? blocks(scale_count, kNestedBlocksize) : scale_count);
  const bnb_nested descriptors{code.get(), scales.get(), offset.get(), kNestedBlocksize};
  return pointers.finish(cgemm_4bit(a.get(), b.get(), nested.codes ? scale_codes.get() : scales.get(),
                                    nested.codes ? &descriptors : nullptr, quant_type, shape.blocksize,
                                    bias ? bias_tensor.get() : nullptr, o.get(), pointers.queue().stream));
}

bnb_status multiply_nested(const char *function, DType dtype, Shape shape, bnb_quant_type quant_type, const void *A,
                           const uint8_t *B, const float *absmax, NestedScales nested, const void *bias, void *out, void *stream) {
  if (!nested.codes) nested = {};  // the other two may be anything
  Pointers pointers(function, stream, {A, B, absmax, nested.codes, nested.code, nested.offset, bias, out});
  return multiply(pointers, function, dtype, shape, quant_type, A, B, absmax, nested, bias, out);
}

// These names say the format by its codebook. 0 after setting the error text for one that is neither NF4 nor FP4.
int32_t quant_type_of(const char *function, const float *codebook) {
  bool nf4 = true, fp4 = true;
  for (uint8_t code = 0; code < 16; ++code) {
    const float value = codebook[code];
    nf4 = nf4 && value == formats::nf4::decode(code);
    fp4 = fp4 && value == formats::fp4::decode(code);
  }
  if (!nf4 && !fp4) fail(BNB_ERROR_INVALID_ARGUMENT, "%s: datatype is not the codebook of NF4 or FP4", function);
  return nf4 ? BNB_NF4 : fp4 ? BNB_FP4 : 0;
}

// One row times a matrix of `n` packed rows of ldb bytes. quant_type 0: that of the codebook.
bnb_status multiply_row(const char *function, DType dtype, int n, int k, const void *A, const uint8_t *B, const float *absmax,
                        int32_t quant_type, const float *codebook, void *out, int ldb, int blocksize, void *stream) {
  Pointers pointers(function, stream, {A, B, absmax, codebook, out});
  if (quant_type == 0) {
    float values[16] = {};
    const bnb_status status = codebook ? pointers.read(values, codebook, sizeof values) : BNB_OK;
    if (status != BNB_OK) return pointers.finish(status);
    quant_type = quant_type_of(function, values);
    if (quant_type == 0) return BNB_ERROR_INVALID_ARGUMENT;
  }
  if (n > 1 && int64_t(ldb) * 2 != k) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: ldb is %d, must be k / 2 for k = %d", function, ldb, k);
  }
  return multiply(pointers, function, dtype, {1, n, k, blocksize}, bnb_quant_type(quant_type), A, B, absmax, {}, nullptr, out);
}

constexpr int64_t kInterleaved = 32;  // rows of weights whose codes share bytes in bitsandbytes' packing for CPUs

// Rows [32 block, 32 block + 32): byte j of pair t has the codes of row j / 2 (low half) and of 16 + j / 2 (high half), element
// 2t + j % 2.
void take_apart(const uint8_t *from, int64_t block, int64_t k, uint8_t *to) {
  const uint8_t *w = from + block * kInterleaved * (k / 2);
  for (int64_t row = 0; row < kInterleaved; ++row) {
    const int shift = row < 16 ? 0 : 4;
    uint8_t *out = to + (block * kInterleaved + row) * (k / 2);
    for (int64_t pair = 0; pair < k / 2; ++pair) {
      const uint8_t *bytes = w + pair * kInterleaved + row % 16 * 2;
      out[pair] = uint8_t(((bytes[0] >> shift) & 15) << 4 | ((bytes[1] >> shift) & 15));
    }
  }
}

bnb_status multiply_interleaved(const char *function, bnb_quant_type quant_type, BNB_ARGS_GEMV_4BIT_CPU) {
  const bool sizes = M >= 0 && N >= 0 && K >= 0 && blocksize >= 2 && N % kInterleaved == 0 && K % 2 == 0 &&
                     K % blocksize == 0 && x_stride >= (M > 1 ? K : 0) && out_stride >= (M > 1 ? N : 0);
  int64_t weights = 0;
  if (!sizes || __builtin_mul_overflow(N, K, &weights)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT,
                "%s: M, N, K are %lld, %lld, %lld with blocksize %lld and strides %lld and %lld; N must be a multiple of 32, K of "
                "blocksize, strides at least a row", function, (long long)M, (long long)N, (long long)K, (long long)blocksize,
                (long long)x_stride, (long long)out_stride);
  }
  if (M == 0 || N == 0) return BNB_OK;
  if (!out || (K > 0 && (!x || !w || !absmax))) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: x, w, absmax or out is NULL", function);
  }
  const int64_t per_row = K / blocksize;
  Pointers pointers(function);
  const Temporary codes(nullptr, pointers.queue(), weights / 2), scales(nullptr, pointers.queue(), N * per_row * 4);
  if (codes.status() != BNB_OK || scales.status() != BNB_OK) return pointers.finish(BNB_ERROR_OUT_OF_MEMORY);
  uint8_t *const packed = codes.data<uint8_t>();
  float *const factors = scales.data<float>();
  cpu::parallel_for(N / kInterleaved, kInterleaved * (K + 4 * per_row), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) take_apart(w, block, K, packed);
    for (int64_t row = begin * kInterleaved; row < end * kInterleaved; ++row) {
      for (int64_t i = 0; i < per_row; ++i) factors[row * per_row + i] = load_float<BF16>(absmax, i * N + row);
    }
  });
  Bare a(pointers, DType::kBF16, x, M, K, M > 1 ? x_stride : K), b(pointers, DType::kU8, codes.data<const uint8_t>(), weights / 2),
      s(pointers, DType::kF32, scales.data<const float>(), N * per_row), o(pointers, DType::kBF16, out, M, N, M > 1 ? out_stride : N);
  return pointers.finish(
      cgemm_4bit(a.get(), b.get(), s.get(), nullptr, quant_type, blocksize, nullptr, o.get(), pointers.queue().stream));
}

}  // namespace

#define BNB_DEFINE(family, suffix, T)                                                                                   \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT(T)) {                                                                 \
    return multiply_nested(#family "_" #suffix, dtypes::T, {M, N, K, blocksize}, bnb_quant_type(quant_type), A, B,      \
                           absmax, {absmax_8bit, absmax_code, absmax_offset}, bias, out, stream);                       \
  }
BNB_FLOATS(BNB_DEFINE, cgemm_4bit)
#undef BNB_DEFINE

// The sizes that one row leaves without a meaning are not looked at.
#define BNB_DEFINE(family, suffix, T, outputs, unused)                                                                  \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT_INFERENCE(T)) {                                                       \
    (void)unused;                                                                                                       \
    (void)lda;                                                                                                          \
    (void)ldc;                                                                                                          \
    return multiply_row(#family "_" #suffix, dtypes::T, outputs, k, A, B, absmax, 0, datatype, out, ldb, blocksize,     \
                        stream);                                                                                        \
  }
#define BNB_DEFINE_NAIVE(family, suffix, T) BNB_DEFINE(family, suffix, T, m, n)
#define BNB_DEFINE_GEMV(family, suffix, T) BNB_DEFINE(family, suffix, T, n, m)
BNB_FLOATS(BNB_DEFINE_NAIVE, cgemm_4bit_inference_naive)
BNB_FLOATS(BNB_DEFINE_GEMV, cgemv_4bit_inference)
#undef BNB_DEFINE_NAIVE
#undef BNB_DEFINE_GEMV
#undef BNB_DEFINE

bnb_status cgemm_4bit_inference(int m, int, int k, const bnb_fp16 *A, const uint8_t *B, const float *absmax, bnb_fp16 *out,
                                int, int ldb, int, int blocksize) {
  return multiply_row("cgemm_4bit_inference", DType::kF16, m, k, A, B, absmax, BNB_NF4, nullptr, out, ldb, blocksize,
                      nullptr);
}

bnb_status gemv_4bit_inference_cpu_fp4_bf16(BNB_ARGS_GEMV_4BIT_CPU) {
  return multiply_interleaved("gemv_4bit_inference_cpu_fp4_bf16", BNB_FP4, M, N, K, x, w, absmax, out, blocksize, x_stride,
                              out_stride);
}
bnb_status gemv_4bit_inference_cpu_nf4_bf16(BNB_ARGS_GEMV_4BIT_CPU) {
  return multiply_interleaved("gemv_4bit_inference_cpu_nf4_bf16", BNB_NF4, M, N, K, x, w, absmax, out, blocksize, x_stride,
                              out_stride);
}

// bitsandbytes' Python takes a yes as advice to repack weights in place for gemv_4bit_inference_cpu_*_bf16, which costs training
// and checkpoints and is the slower way here: cgemm_4bit reads the stored layout.
bool has_avx512bf16_cpu(void) { return false; }
