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

// out [m, n] = A [m, k] times W [n, k] with flat blocks. nested may be NULL.
bnb_status multiply(const char *function, DType dtype, Shape shape, bnb_quant_type quant_type, const void *A,
                    const uint8_t *B, const void *absmax, const bnb_nested *nested, const void *bias, void *out,
                    void *stream) {
  if (shape.m < 0 || shape.n < 0 || shape.k < 0) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: M, N, K are %lld, %lld, %lld, must not be negative", function,
                (long long)shape.m, (long long)shape.n, (long long)shape.k);
  }
  Bare a(dtype, A, shape.m, shape.k), b(DType::kU8, B, ceil_div(shape.weights(), 2)), o(dtype, out, shape.m, shape.n);
  Bare scales(nested ? DType::kU8 : DType::kF32, absmax, blocks(shape.weights(), shape.blocksize));
  Bare bias_tensor(dtype, bias, shape.n);
  return as(function, cgemm_4bit(a.get(), b.get(), scales.get(), nested, quant_type, shape.blocksize,
                                 bias ? bias_tensor.get() : nullptr, o.get(), stream));
}

bnb_status multiply_nested(const char *function, DType dtype, Shape shape, bnb_quant_type quant_type, const void *A,
                           const uint8_t *B, const float *absmax, const uint8_t *absmax_8bit, const float *absmax_code,
                           const float *absmax_offset, const void *bias, void *out, void *stream) {
  if (!absmax_8bit) return multiply(function, dtype, shape, quant_type, A, B, absmax, nullptr, bias, out, stream);
  const int64_t scales = blocks(shape.weights(), shape.blocksize);
  Bare code(DType::kF32, absmax_code, kCodeSize), offset(DType::kF32, absmax_offset, 1);
  Bare nested_absmax(DType::kF32, absmax, blocks(scales, kNestedBlocksize));
  const bnb_nested nested{code.get(), nested_absmax.get(), offset.get(), kNestedBlocksize};
  return multiply(function, dtype, shape, quant_type, A, B, absmax_8bit, &nested, bias, out, stream);
}

// These names say the format by its codebook. 0 after setting the error text for one that is neither NF4 nor FP4.
int32_t quant_type_of(const char *function, const float *codebook) {
  bool nf4 = codebook, fp4 = codebook;
  for (uint8_t code = 0; codebook && code < 16; ++code) {
    const float value = load<float>(codebook, code);
    nf4 = nf4 && value == formats::nf4::decode(code);
    fp4 = fp4 && value == formats::fp4::decode(code);
  }
  if (!nf4 && !fp4) fail(BNB_ERROR_INVALID_ARGUMENT, "%s: datatype is not the codebook of NF4 or FP4", function);
  return nf4 ? BNB_NF4 : fp4 ? BNB_FP4 : 0;
}

// One row times a matrix of `n` packed rows of ldb bytes.
bnb_status multiply_row(const char *function, DType dtype, int n, int k, const void *A, const uint8_t *B,
                        const float *absmax, int32_t quant_type, void *out, int ldb, int blocksize, void *stream) {
  if (quant_type == 0) return BNB_ERROR_INVALID_ARGUMENT;
  if (n > 1 && int64_t(ldb) * 2 != k) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: ldb is %d, must be k / 2 for k = %d", function, ldb, k);
  }
  return multiply(function, dtype, {1, n, k, blocksize}, bnb_quant_type(quant_type), A, B, absmax, nullptr, nullptr, out,
                  stream);
}

// Host memory for the length of a call.
class Temporary {
 public:
  explicit Temporary(int64_t bytes) {
    ok_ = bytes == 0 || bnb_allocate(kPointerDevice, size_t(bytes), &data_) == BNB_OK;
  }
  ~Temporary() { bnb_free(kPointerDevice, data_); }
  Temporary(const Temporary &) = delete;
  Temporary &operator=(const Temporary &) = delete;
  bool ok() const { return ok_; }
  uint8_t *bytes() const { return static_cast<uint8_t *>(data_); }

 private:
  void *data_ = nullptr;
  bool ok_;
};

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
  const Temporary codes(weights / 2), scales(N * per_row * 4);
  if (!codes.ok() || !scales.ok()) return as(function, BNB_ERROR_OUT_OF_MEMORY);
  cpu::parallel_for(N / kInterleaved, kInterleaved * (K + 4 * per_row), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) take_apart(w, block, K, codes.bytes());
    for (int64_t row = begin * kInterleaved; row < end * kInterleaved; ++row) {
      for (int64_t i = 0; i < per_row; ++i) store<float>(scales.bytes(), row * per_row + i, load_float<BF16>(absmax, i * N + row));
    }
  });
  int64_t x_strides[2] = {x_stride, 1}, out_strides[2] = {out_stride, 1};
  Bare a(DType::kBF16, x, M, K), b(DType::kU8, codes.bytes(), weights / 2), o(DType::kBF16, out, M, N);
  Bare s(DType::kF32, scales.bytes(), N * per_row);
  if (M > 1) {
    a.get()->strides = x_strides;
    o.get()->strides = out_strides;
  }
  return as(function, cgemm_4bit(a.get(), b.get(), s.get(), nullptr, quant_type, blocksize, nullptr, o.get(), nullptr));
}

}  // namespace

#define BNB_DEFINE(family, suffix, T)                                                                                   \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT(T)) {                                                                 \
    return multiply_nested(#family "_" #suffix, dtypes::T, {M, N, K, blocksize}, bnb_quant_type(quant_type), A, B,      \
                           absmax, absmax_8bit, absmax_code, absmax_offset, bias, out, stream);                         \
  }
BNB_FLOATS(BNB_DEFINE, cgemm_4bit)
#undef BNB_DEFINE

// The sizes that one row leaves without a meaning are not looked at.
#define BNB_DEFINE(family, suffix, T, outputs, unused)                                                                  \
  bnb_status family##_##suffix(BNB_ARGS_GEMM_4BIT_INFERENCE(T)) {                                                       \
    (void)unused;                                                                                                       \
    (void)lda;                                                                                                          \
    (void)ldc;                                                                                                          \
    const char *name = #family "_" #suffix;                                                                             \
    return multiply_row(name, dtypes::T, outputs, k, A, B, absmax, quant_type_of(name, datatype), out, ldb, blocksize,  \
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
  return multiply_row("cgemm_4bit_inference", DType::kF16, m, k, A, B, absmax, BNB_NF4, out, ldb, blocksize, nullptr);
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
