// SPDX-License-Identifier: MIT
// bitsandbytes' names for 8-bit and 4-bit blockwise quantization.
#include "api/absmax.h"
#include "api/bitsandbytes_call.h"

using namespace bnb;
using namespace bnb::api;

namespace {

bnb_status quantize_8bit(Pointers &pointers, DType dtype, const float *code, const void *A, float *absmax, uint8_t *out,
                         int64_t blocksize, int64_t n) {
  Bare a_tensor(pointers, dtype, A, n), code_tensor(pointers, DType::kF32, code, kCodeSize), out_tensor(pointers, DType::kU8, out, n),
      absmax_tensor(pointers, DType::kF32, absmax, blocks(n, blocksize));
  return pointers.finish(cquantize_blockwise(a_tensor.get(), code_tensor.get(), blocksize, out_tensor.get(), absmax_tensor.get(),
                                             pointers.queue().stream));
}

bnb_status dequantize_8bit(Pointers &pointers, DType dtype, const float *code, const uint8_t *A, const float *absmax, void *out,
                           int64_t blocksize, int64_t n) {
  Bare a_tensor(pointers, DType::kU8, A, n), absmax_tensor(pointers, DType::kF32, absmax, blocks(n, blocksize)),
      code_tensor(pointers, DType::kF32, code, kCodeSize), out_tensor(pointers, dtype, out, n);
  return pointers.finish(cdequantize_blockwise(a_tensor.get(), absmax_tensor.get(), code_tensor.get(), blocksize, out_tensor.get(),
                                               pointers.queue().stream));
}

// Bytes of n packed codes; a nonsensical n is left for the check of A to report.
int64_t packed_bytes(int64_t n) { return n > 0 ? ceil_div(n, 2) : 0; }

bnb_status quantize_4bit(Pointers &pointers, DType dtype, bnb_quant_type quant_type, const void *A, float *absmax, uint8_t *out,
                         int64_t blocksize, int64_t n) {
  Bare a_tensor(pointers, dtype, A, n), out_tensor(pointers, DType::kU8, out, packed_bytes(n)),
      absmax_tensor(pointers, DType::kF32, absmax, blocks(n, blocksize));
  return pointers.finish(
      cquantize_4bit(a_tensor.get(), quant_type, blocksize, out_tensor.get(), absmax_tensor.get(), pointers.queue().stream));
}

bnb_status dequantize_4bit(Pointers &pointers, DType dtype, bnb_quant_type quant_type, const uint8_t *A, const float *absmax,
                           void *out, int64_t blocksize, int64_t n) {
  Bare a_tensor(pointers, DType::kU8, A, packed_bytes(n)), absmax_tensor(pointers, DType::kF32, absmax, blocks(n, blocksize)),
      out_tensor(pointers, dtype, out, n);
  return pointers.finish(cdequantize_4bit(a_tensor.get(), absmax_tensor.get(), nullptr, quant_type, blocksize, out_tensor.get(),
                                          pointers.queue().stream));
}

// m rows of n: the flat tensor is what counts, once its size is known to fit.
bnb_status dequantize_4bit_rows(const char *function, DType dtype, bnb_quant_type quant_type, const uint8_t *A,
                                const float *absmax, void *out, int64_t blocksize, int64_t m, int64_t n) {
  int64_t elements = 0;
  if (m < 0 || n < 0 || __builtin_mul_overflow(m, n, &elements)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: out cannot have %lld rows of %lld", function, (long long)m,
                (long long)n);
  }
  Pointers pointers(function);
  return dequantize_4bit(pointers, dtype, quant_type, A, absmax, out, blocksize, elements);
}

}  // namespace

#define BNB_DEFINE(family, suffix, T)                                                         \
  bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                              \
    Pointers pointers(#family "_" #suffix, nullptr, {code, A, absmax, out});                  \
    return quantize_8bit(pointers, dtypes::T, code, A, absmax, out, blocksize, n);            \
  }                                                                                           \
  bnb_status family##_##suffix##_fp4(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                        \
    (void)code;                                                                               \
    Pointers pointers(#family "_" #suffix "_fp4", nullptr, {A, absmax, out});                 \
    return quantize_4bit(pointers, dtypes::T, BNB_FP4, A, absmax, out, blocksize, n);         \
  }                                                                                           \
  bnb_status family##_##suffix##_nf4(BNB_ARGS_QUANTIZE_BLOCKWISE(T)) {                        \
    (void)code;                                                                               \
    Pointers pointers(#family "_" #suffix "_nf4", nullptr, {A, absmax, out});                 \
    return quantize_4bit(pointers, dtypes::T, BNB_NF4, A, absmax, out, blocksize, n);         \
  }
BNB_FLOATS(BNB_DEFINE, cquantize_blockwise)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                           \
  bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                              \
    Pointers pointers(#family "_" #suffix, stream, {code, A, absmax, out});                     \
    return dequantize_8bit(pointers, dtypes::T, code, A, absmax, out, blocksize, n);            \
  }                                                                                             \
  bnb_status family##_##suffix##_fp4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                        \
    (void)code;                                                                                 \
    Pointers pointers(#family "_" #suffix "_fp4", stream, {A, absmax, out});                    \
    return dequantize_4bit(pointers, dtypes::T, BNB_FP4, A, absmax, out, blocksize, n);         \
  }                                                                                             \
  bnb_status family##_##suffix##_nf4(BNB_ARGS_DEQUANTIZE_BLOCKWISE(T)) {                        \
    (void)code;                                                                                 \
    Pointers pointers(#family "_" #suffix "_nf4", stream, {A, absmax, out});                    \
    return dequantize_4bit(pointers, dtypes::T, BNB_NF4, A, absmax, out, blocksize, n);         \
  }
BNB_FLOATS(BNB_DEFINE, cdequantize_blockwise)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                              \
  bnb_status family##_##suffix(BNB_ARGS_QUANTIZE_BLOCKWISE_CPU(T)) {               \
    Pointers pointers(#family "_" #suffix);                                        \
    return quantize_8bit(pointers, dtypes::T, code, A, absmax, out, blocksize, n); \
  }
BNB_FLOATS(BNB_DEFINE, cquantize_blockwise_cpu)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                                \
  bnb_status family##_##suffix(BNB_ARGS_DEQUANTIZE_BLOCKWISE_CPU(T)) {               \
    Pointers pointers(#family "_" #suffix);                                          \
    return dequantize_8bit(pointers, dtypes::T, code, A, absmax, out, blocksize, n); \
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
  Pointers pointers("cdequantize_blockwise_cpu_fp32_fp4");
  return dequantize_4bit(pointers, DType::kF32, BNB_FP4, A, absmax, out, blocksize, n);
}

bnb_status cdequantize_blockwise_cpu_fp32_nf4(BNB_ARGS_DEQUANTIZE_4BIT_RUST) {
  (void)code;
  Pointers pointers("cdequantize_blockwise_cpu_fp32_nf4");
  return dequantize_4bit(pointers, DType::kF32, BNB_NF4, A, absmax, out, blocksize, n);
}

bnb_status cquantize(const float *code, const float *A, uint8_t *out, int n) {
  Check check("cquantize");
  Pointers pointers("cquantize", nullptr, {code, A, out});
  Bare code_tensor(pointers, DType::kF32, code, kCodeSize), a_tensor(pointers, DType::kF32, A, n),
      out_tensor(pointers, DType::kU8, out, n);
  const View c = check.input("code", code_tensor.get(), kFloats);
  check.sorted_code("code", c);
  const View a = check.input("A", a_tensor.get(), kFloats);
  const View o = check.output("out", out_tensor.get(), bit(DType::kU8));
  return pointers.finish(check.run(&Backend::nearest_code, {c.data, a.data, a.n, static_cast<uint8_t *>(o.data)}, nullptr));
}

// One block of absmax 1: the product with 1 changes no bit.
bnb_status cdequantize(const float *code, const uint8_t *A, float *out, int n, void *stream) {
  Pointers pointers("cdequantize", stream, {code, A, out});
  const Temporary one(pointers.backend(), pointers.queue(), sizeof(float));
  if (one.status() != BNB_OK) return pointers.finish(one.status());
  if (pointers.on_host()) {
    store<float>(one.data(), 0, 1.0f);
  } else {
    Check check("cdequantize");
    Bare tensor(pointers, DType::kF32, one.data(), 1);
    const View absmax = check.output("absmax", tensor.get(), bit(DType::kF32));
    const bnb_status status = check.run(&Backend::fill, {absmax.data, 1, DType::kF32, 1.0f, 0}, stream);
    if (status != BNB_OK) return pointers.finish(status);
  }
  return dequantize_8bit(pointers, DType::kF32, code, A, one.data<const float>(), out, n > 0 ? n : 1, n);
}
