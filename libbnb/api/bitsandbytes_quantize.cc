// SPDX-License-Identifier: MIT
// bitsandbytes' names for 8-bit and 4-bit blockwise quantization.
#include "api/absmax.h"
#include "api/bitsandbytes_call.h"

using namespace bnb;
using namespace bnb::api;

namespace {

bnb_status quantize_8bit(const char *function, DType dtype, const float *code, const void *A, float *absmax,
                         uint8_t *out, int64_t blocksize, int64_t n) {
  return as(function, cquantize_blockwise(Bare(dtype, A, n).get(), Bare(DType::kF32, code, kCodeSize).get(), blocksize,
                                          Bare(DType::kU8, out, n).get(),
                                          Bare(DType::kF32, absmax, blocks(n, blocksize)).get(), nullptr));
}

bnb_status dequantize_8bit(const char *function, DType dtype, const float *code, const uint8_t *A, const float *absmax,
                           void *out, int64_t blocksize, int64_t n, void *stream) {
  return as(function, cdequantize_blockwise(
                          Bare(DType::kU8, A, n).get(), Bare(DType::kF32, absmax, blocks(n, blocksize)).get(),
                          Bare(DType::kF32, code, kCodeSize).get(), blocksize, Bare(dtype, out, n).get(), stream));
}

// Bytes of n packed codes; a nonsensical n is left for the check of A to report.
int64_t packed_bytes(int64_t n) { return n > 0 ? ceil_div(n, 2) : 0; }

bnb_status quantize_4bit(const char *function, DType dtype, bnb_quant_type quant_type, const void *A, float *absmax,
                         uint8_t *out, int64_t blocksize, int64_t n) {
  return as(function,
            cquantize_4bit(Bare(dtype, A, n).get(), quant_type, blocksize, Bare(DType::kU8, out, packed_bytes(n)).get(),
                           Bare(DType::kF32, absmax, blocks(n, blocksize)).get(), nullptr));
}

bnb_status dequantize_4bit(const char *function, DType dtype, bnb_quant_type quant_type, const uint8_t *A,
                           const float *absmax, void *out, int64_t blocksize, int64_t n, void *stream) {
  return as(function, cdequantize_4bit(Bare(DType::kU8, A, packed_bytes(n)).get(),
                                       Bare(DType::kF32, absmax, blocks(n, blocksize)).get(), nullptr, quant_type,
                                       blocksize, Bare(dtype, out, n).get(), stream));
}

// m rows of n: the flat tensor is what counts, once its size is known to fit.
bnb_status dequantize_4bit_rows(const char *function, DType dtype, bnb_quant_type quant_type, const uint8_t *A,
                                const float *absmax, void *out, int64_t blocksize, int64_t m, int64_t n) {
  int64_t elements = 0;
  if (m < 0 || n < 0 || __builtin_mul_overflow(m, n, &elements)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: out cannot have %lld rows of %lld", function, (long long)m,
                (long long)n);
  }
  return dequantize_4bit(function, dtype, quant_type, A, absmax, out, blocksize, elements, nullptr);
}

}  // namespace

#define BNB_DEFINE(family, suffix, T)                                                                   \
  bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                                        \
    return quantize_8bit(#family "_" #suffix, dtypes::T, code, A, absmax, out, blocksize, n);           \
  }                                                                                                     \
  bnb_status family##_##suffix##_fp4(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                                  \
    (void)code;                                                                                         \
    return quantize_4bit(#family "_" #suffix "_fp4", dtypes::T, BNB_FP4, A, absmax, out, blocksize, n); \
  }                                                                                                     \
  bnb_status family##_##suffix##_nf4(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                                  \
    (void)code;                                                                                         \
    return quantize_4bit(#family "_" #suffix "_nf4", dtypes::T, BNB_NF4, A, absmax, out, blocksize, n); \
  }
BNB_FLOATS(BNB_DEFINE, cquantize_blockwise)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                                             \
  bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                                                \
    return dequantize_8bit(#family "_" #suffix, dtypes::T, code, A, absmax, out, blocksize, n, stream);           \
  }                                                                                                               \
  bnb_status family##_##suffix##_fp4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                                          \
    (void)code;                                                                                                   \
    return dequantize_4bit(#family "_" #suffix "_fp4", dtypes::T, BNB_FP4, A, absmax, out, blocksize, n, stream); \
  }                                                                                                               \
  bnb_status family##_##suffix##_nf4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                                          \
    (void)code;                                                                                                   \
    return dequantize_4bit(#family "_" #suffix "_nf4", dtypes::T, BNB_NF4, A, absmax, out, blocksize, n, stream); \
  }
BNB_FLOATS(BNB_DEFINE, cdequantize_blockwise)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                         \
  bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE_CPU(T)) {                          \
    return quantize_8bit(#family "_" #suffix, dtypes::T, code, A, absmax, out, blocksize, n); \
  }
BNB_FLOATS(BNB_DEFINE, cquantize_blockwise_cpu)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                                    \
  bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE_CPU(T)) {                                   \
    return dequantize_8bit(#family "_" #suffix, dtypes::T, code, A, absmax, out, blocksize, n, nullptr); \
  }
BNB_FLOATS(BNB_DEFINE, cdequantize_blockwise_cpu)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                                          \
  bnb_status family##_fp4_##suffix(BNB_ARGS_DEQUANTIZE_4BIT_CPU(T)) {                                          \
    return dequantize_4bit_rows(#family "_fp4_" #suffix, dtypes::T, BNB_FP4, A, absmax, out, blocksize, m, n); \
  }                                                                                                            \
  bnb_status family##_nf4_##suffix(BNB_ARGS_DEQUANTIZE_4BIT_CPU(T)) {                                          \
    return dequantize_4bit_rows(#family "_nf4_" #suffix, dtypes::T, BNB_NF4, A, absmax, out, blocksize, m, n); \
  }
BNB_FLOATS(BNB_DEFINE, cdequantize_blockwise_cpu)
#undef BNB_DEFINE

bnb_status cdequantize_blockwise_cpu_fp32_fp4(BNB_ARGS_DEQUANTIZE_4BIT_RUST) {
  (void)code;
  return dequantize_4bit("cdequantize_blockwise_cpu_fp32_fp4", DType::kF32, BNB_FP4, A, absmax, out, blocksize, n,
                         nullptr);
}

bnb_status cdequantize_blockwise_cpu_fp32_nf4(BNB_ARGS_DEQUANTIZE_4BIT_RUST) {
  (void)code;
  return dequantize_4bit("cdequantize_blockwise_cpu_fp32_nf4", DType::kF32, BNB_NF4, A, absmax, out, blocksize, n,
                         nullptr);
}

bnb_status cquantize(const float *code, const float *A, uint8_t *out, int n) {
  Check check("cquantize");
  Bare code_tensor(DType::kF32, code, kCodeSize), a_tensor(DType::kF32, A, n), out_tensor(DType::kU8, out, n);
  const View c = check.input("code", code_tensor.get(), kFloats);
  check.sorted_code("code", c);
  const View a = check.input("A", a_tensor.get(), kFloats);
  const View o = check.output("out", out_tensor.get(), bit(DType::kU8));
  return check.run(&Backend::nearest_code, {c.data, a.data, a.n, static_cast<uint8_t *>(o.data)}, nullptr);
}

// One block of absmax 1: the product with 1 changes no bit.
bnb_status cdequantize(const float *code, const uint8_t *A, float *out, int n, void *stream) {
  const float absmax = 1.0f;
  return dequantize_8bit("cdequantize", DType::kF32, code, A, &absmax, out, n > 0 ? n : 1, n, stream);
}
