// SPDX-License-Identifier: MIT
// What errors say: the function, the argument, what it got and what it wants. Nothing is written by a call that fails.
#include <bnb/bnb.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "check.h"

namespace {

constexpr DLDataType kF32{kDLFloat, 32, 1}, kF64{kDLFloat, 64, 1}, kU8{kDLUInt, 8, 1}, kI8{kDLInt, 8, 1},
    kI32{kDLInt, 32, 1}, kI64{kDLInt, 64, 1};

// A tensor with memory of its own, full of a byte that no call that fails may change.
struct Array {
  std::vector<uint8_t> bytes;
  std::vector<int64_t> shape, strides;
  DLTensor tensor{};

  Array(DLDataType dtype, std::vector<int64_t> extents) : bytes(4096, 0x11), shape(std::move(extents)) {
    tensor = {bytes.data(), {kDLCPU, 0}, int32_t(shape.size()), dtype, shape.data(), nullptr, 0};
  }
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;
  bool untouched() const {
    for (uint8_t byte : bytes) {
      if (byte != 0x11) return false;
    }
    return true;
  }
};

// A right cquantize_4bit of 100 elements, to be made wrong.
struct Quantize {
  Array A{kF32, {100}}, out{kU8, {50, 1}}, absmax{kF32, {2}};
  int32_t quant_type = BNB_NF4;
  int64_t blocksize = 64;

  bnb_status call() {
    return cquantize_4bit(&A.tensor, bnb_quant_type(quant_type), blocksize, &out.tensor, &absmax.tensor, nullptr);
  }
};

void expect(bnb_status got, bnb_status want, std::initializer_list<const char *> parts) {
  CHECK_THAT(got == want, "status %s, must be %s", bnb_status_name(got), bnb_status_name(want));
  for (const char *part : parts) {
    CHECK_THAT(std::strstr(bnb_last_error(), part), "\"%s\" does not say \"%s\"", bnb_last_error(), part);
  }
}

void check_4bit(const std::function<void(Quantize &)> &spoil, std::initializer_list<const char *> parts,
                bnb_status want = BNB_ERROR_INVALID_ARGUMENT) {
  Quantize quantize;
  spoil(quantize);
  expect(quantize.call(), want, {"cquantize_4bit: "});
  expect(want, want, parts);
  CHECK(quantize.out.untouched() && quantize.absmax.untouched());
}

void descriptors() {
  int64_t negative = -3, minimum = INT64_MIN;
  int64_t huge[3] = {int64_t(1) << 40, int64_t(1) << 40, 2}, strided[1] = {2}, two_strides[2] = {2, 1};
  check_4bit([](Quantize &q) { q.A.tensor.data = nullptr; }, {"A.data is NULL", "100"});
  check_4bit([](Quantize &q) { q.out.tensor.shape = nullptr; }, {"out.shape is NULL"});
  check_4bit([](Quantize &q) { q.A.tensor.ndim = -1; }, {"A has -1 dimensions"});
  check_4bit([](Quantize &q) { q.A.tensor.ndim = 100000; }, {"A has 100000 dimensions"});
  check_4bit([&](Quantize &q) { q.A.tensor.shape = &negative; }, {"A has a dimension of -3"});
  check_4bit([&](Quantize &q) { q.A.tensor.shape = &minimum; }, {"A has a dimension of -9223372036854775808"});
  check_4bit([&](Quantize &q) { q.A.tensor.shape = huge, q.A.tensor.ndim = 3; },
             {"A has more bytes than 64 bits can count"});
  check_4bit([&](Quantize &q) { q.A.tensor.strides = strided; }, {"A is not compact", "stride 2", "must be 1"});
  check_4bit([&](Quantize &q) { q.out.tensor.strides = two_strides; }, {"out is not compact", "stride 2", "must be 1"});
  check_4bit([](Quantize &q) { q.A.tensor.byte_offset = ~uint64_t(0) - 64; }, {"A reaches beyond the address space"});
  check_4bit([](Quantize &q) { q.A.tensor.dtype = kF64; }, {"A is float64", "must be float32, float16 or bfloat16"});
  check_4bit([](Quantize &q) { q.A.tensor.dtype = kU8; }, {"A is uint8"});
  check_4bit([](Quantize &q) { q.A.tensor.dtype = {77, 13, 5}; }, {"A is dtype(code 77, 13 bits, 5 lanes)"});
  check_4bit([](Quantize &q) { q.A.tensor.dtype.bits = 0; }, {"A has a dtype of 0 bits"});
  check_4bit([](Quantize &q) { q.absmax.tensor.dtype = kI32; }, {"absmax is int32", "must be float32"});
  check_4bit([](Quantize &q) { q.out.tensor.dtype = {kDLUInt, 4, 1}; }, {"out", "1, 2, 4 or 8 bytes"});
  Quantize q;
  expect(cquantize_4bit(nullptr, BNB_NF4, 64, &q.out.tensor, &q.absmax.tensor, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"A is NULL"});
  expect(cquantize_4bit(&q.A.tensor, BNB_NF4, 64, nullptr, &q.absmax.tensor, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"out is NULL"});
  expect(cquantize_4bit(&q.A.tensor, BNB_NF4, 64, &q.out.tensor, nullptr, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"absmax is NULL"});
  CHECK(q.out.untouched() && q.absmax.untouched());
}

void sizes() {
  int64_t one = 1, three = 3, many[2] = {51, 1};
  check_4bit([&](Quantize &q) { q.absmax.tensor.shape = &one; }, {"absmax has 1 elements, must have 2"});
  check_4bit([&](Quantize &q) { q.absmax.tensor.shape = &three; }, {"absmax has 3 elements, must have 2"});
  check_4bit([&](Quantize &q) { q.out.tensor.shape = many; }, {"out has 51 bytes, must have 50", "100 elements"});
  check_4bit([](Quantize &q) { q.blocksize = 0; }, {"blocksize is 0, must be at least 2"});
  check_4bit([](Quantize &q) { q.blocksize = -64; }, {"blocksize is -64"});
  check_4bit([](Quantize &q) { q.blocksize = INT64_MIN; }, {"blocksize is -9223372036854775808"});
  check_4bit([](Quantize &q) { q.blocksize = 63; }, {"blocksize is 63, must be even"});
  check_4bit([](Quantize &q) { q.blocksize = INT64_MAX; }, {"blocksize is 9223372036854775807, must be even"});
  check_4bit([](Quantize &q) { q.quant_type = 99; }, {"quant_type is 99", "BNB_FP4", "BNB_NF4"});
  check_4bit([](Quantize &q) { q.quant_type = BNB_FP8_E5M2; }, {"quant_type is 4"});
}

// MX and NVFP4: rows of whole blocks, tensor scales, dtypes.
void microscaling() {
  Array A{kF32, {3, 64}}, odd{kF32, {2, 48}}, scalar{kF32, {}}, out{kU8, {3, 32}}, scale{kU8, {3, 2}}, scales16{kU8, {3, 4}};
  Array tensor_scale{kF32, {1}}, two{kF32, {2}}, float8{{kDLFloat8_e4m3fn, 8, 1}, {3, 2}};
  const auto quantize = [&](Array &a, int32_t quant_type, int32_t rule, Array &codes, Array &s, Array *t) {
    return cquantize_mx(&a.tensor, bnb_quant_type(quant_type), bnb_mx_scale(rule), &codes.tensor, &s.tensor, t ? &t->tensor : nullptr,
                        nullptr);
  };
  const auto wrong = [](bnb_status got, std::initializer_list<const char *> parts) { expect(got, BNB_ERROR_INVALID_ARGUMENT, parts); };
  wrong(quantize(odd, BNB_MXFP4, 0, out, scale, nullptr), {"cquantize_mx: A has rows of 48 elements, must have a multiple of 32"});
  wrong(quantize(scalar, BNB_NVFP4, 0, out, scale, nullptr), {"A has no dimensions"});
  wrong(quantize(A, BNB_NF4, 0, out, scale, nullptr), {"quant_type is 2, must be BNB_MXFP4 (8)"});
  wrong(quantize(A, BNB_MXFP4, 4, out, scale, nullptr), {"rule is 4"});
  wrong(quantize(A, BNB_MXFP4, -1, out, scale, nullptr), {"rule is -1"});
  wrong(quantize(A, BNB_MXFP4, 0, out, scale, &tensor_scale), {"tensor_scale is not NULL", "only BNB_NVFP4"});
  wrong(quantize(A, BNB_NVFP4, 0, out, scale, nullptr), {"scale has 6 elements, must have 12"});
  wrong(quantize(A, BNB_NVFP4, 0, out, scales16, &two), {"tensor_scale has 2 elements, must have 1"});
  wrong(quantize(A, BNB_MXFP8_E5M2, 0, out, scale, nullptr), {"out has 96 elements, must have 192 (one per element)"});
  wrong(quantize(A, BNB_MXFP4, 0, out, float8, nullptr), {"scale is float8_e4m3fn, must be uint8 or float8_e8m0fnu"});
  wrong(cdequantize_mx(&out.tensor, &scale.tensor, nullptr, BNB_MXFP4, &two.tensor, nullptr),
        {"cdequantize_mx: out has 2 elements, must have a multiple of 32"});
  wrong(cdequantize_mx(&scale.tensor, &scale.tensor, nullptr, BNB_MXFP4, &A.tensor, nullptr),
        {"A has 6 elements, must have 96 (two codes a byte)"});
  for (Array *array : {&A, &out, &scale, &scales16, &tensor_scale, &float8}) CHECK(array->untouched());
}

void devices() {
  check_4bit(
      [](Quantize &q) {
        q.A.tensor.device = {kDLVulkan, 0};
      },
      {"A is on device type 7", "no backend"}, BNB_ERROR_UNSUPPORTED);
  check_4bit([](Quantize &q) { q.A.tensor.device = {kDLCPU, 1}; }, {"A is on cpu device 1, which does not exist"});
  check_4bit(
      [](Quantize &q) {
        q.absmax.tensor.device = {kDLVulkan, 0};
      },
      {"absmax is on device (7, 0)", "A is on (1, 0)"});
}

void overlaps() {
  check_4bit([](Quantize &q) { q.out.tensor.data = q.A.bytes.data() + 399; }, {"out overlaps A"});
  check_4bit([](Quantize &q) { q.absmax.tensor.data = q.out.bytes.data() + 49; }, {"absmax overlaps out"});
  Quantize q;  // beside each other is fine
  q.out.tensor.data = q.A.bytes.data() + 400;
  q.absmax.tensor.data = q.A.bytes.data() + 450;
  CHECK(q.call() == BNB_OK);
}

void codes() {
  Array A{kF32, {10}}, code{kF32, {256}}, short_code{kF32, {16}}, out{kU8, {10}}, absmax{kF32, {1}};
  float values[256];
  const auto quantize = [&](int at, float value) {
    CHECK(bnb_create_dynamic_map(1, values) == BNB_OK);
    values[at] = value;
    std::memcpy(code.bytes.data(), values, sizeof values);
    return cquantize_blockwise(&A.tensor, &code.tensor, 64, &out.tensor, &absmax.tensor, nullptr);
  };
  expect(quantize(3, NAN), BNB_ERROR_INVALID_ARGUMENT, {"cquantize_blockwise: ", "code[3] is ", "must be finite"});
  expect(quantize(255, INFINITY), BNB_ERROR_INVALID_ARGUMENT, {"code[255] is inf, must be finite"});
  expect(quantize(0, -INFINITY), BNB_ERROR_INVALID_ARGUMENT, {"code[0] is -inf, must be finite"});
  expect(quantize(100, -2.0f), BNB_ERROR_INVALID_ARGUMENT, {"code[100] is -2", "must ascend"});
  expect(cquantize_blockwise(&A.tensor, &short_code.tensor, 64, &out.tensor, &absmax.tensor, nullptr),
         BNB_ERROR_INVALID_ARGUMENT, {"code has 16 elements, must have 256"});
  CHECK(out.untouched() && absmax.untouched());
  CHECK(quantize(0, -0.99296874f) == BNB_OK);
}

void matrices() {
  Array A{kF32, {4, 6}}, flat{kF32, {24}}, out{kI8, {4, 6}}, wrong{kI8, {6, 4}}, stats{kF32, {4}}, columns{kU8, {5}};
  const auto quantize = [&](Array &a, float threshold, Array &o, Array &s, Array *c) {
    return cquantize_int8_vectorwise(&a.tensor, threshold, &o.tensor, &s.tensor, c ? &c->tensor : nullptr, nullptr);
  };
  expect(quantize(flat, 0, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT, {"A has 1 dimensions, must have 2"});
  expect(quantize(A, -1, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT, {"threshold is -1, must be 0 or above"});
  expect(quantize(A, NAN, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT, {"threshold is ", "nan"});
  expect(quantize(A, 0, wrong, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT, {"out has shape [6, 4]", "A, [4, 6]"});
  expect(quantize(A, 1, out, stats, &columns), BNB_ERROR_INVALID_ARGUMENT,
         {"outlier_cols has 5 elements, must have 6"});
  int64_t strides[2] = {5, 1}, endless[2] = {INT64_MAX, 1}, by_column[2] = {1, 4};
  A.tensor.strides = strides;
  expect(quantize(A, 0, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"A is not row-major with compact rows", "stride 5"});
  A.tensor.strides = by_column;
  expect(quantize(A, 0, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT, {"A is not row-major with compact rows"});
  A.tensor.strides = endless;
  expect(quantize(A, 0, out, stats, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"A has a row stride of 9223372036854775807"});
  CHECK(out.untouched() && stats.untouched() && columns.untouched());
}

void nested() {
  Array A{kU8, {50}}, codes{kU8, {2}}, code{kF32, {256}}, absmax{kF32, {1}}, offset{kF32, {1}}, out{kF32, {100}};
  bnb_nested description{&code.tensor, &absmax.tensor, &offset.tensor, 256};
  const auto dequantize = [&](const bnb_nested *n) {
    return cdequantize_4bit(&A.tensor, &codes.tensor, n, BNB_NF4, 64, &out.tensor, nullptr);
  };
  expect(dequantize(nullptr), BNB_ERROR_INVALID_ARGUMENT, {"absmax is uint8, must be float32"});
  description.blocksize = 0;
  expect(dequantize(&description), BNB_ERROR_INVALID_ARGUMENT, {"nested.blocksize is 0"});
  description.blocksize = 1;
  expect(dequantize(&description), BNB_ERROR_INVALID_ARGUMENT, {"nested.absmax has 1 elements, must have 2"});
  description = {nullptr, &absmax.tensor, &offset.tensor, 256};
  expect(dequantize(&description), BNB_ERROR_INVALID_ARGUMENT, {"nested.code is NULL"});
  expect(cdequantize_nested(&A.tensor, nullptr, &out.tensor, nullptr), BNB_ERROR_INVALID_ARGUMENT,
         {"cdequantize_nested: nested is NULL"});
  CHECK(out.untouched());
}

void ternary() {
  constexpr bnb_status kWrong = BNB_ERROR_INVALID_ARGUMENT;
  Array A{kF32, {3, 256}}, short_rows{kF32, {6, 128}}, bytes{kU8, {192}}, signs{kI8, {192}}, blocks{kU8, {162}}, scale{kF32, {3}};
  const auto quantize = [&](Array &a, int type, int rule, int64_t blocksize, Array &out, Array *s) {
    return cquantize_ternary(&a.tensor, bnb_quant_type(type), bnb_ternary_scale(rule), blocksize, &out.tensor, s ? &s->tensor : nullptr,
                             nullptr);
  };
  expect(quantize(A, BNB_NF4, BNB_ABSMEAN, 256, bytes, &scale), kWrong, {"quant_type is 2, must be BNB_TERNARY (5)"});
  expect(quantize(A, BNB_TERNARY, 2, 256, bytes, &scale), kWrong, {"cquantize_ternary: rule is 2, must be BNB_ABSMEAN (0)"});
  expect(quantize(A, BNB_TERNARY, BNB_ABSMEAN, 0, bytes, &scale), kWrong, {"blocksize is 0"});
  expect(quantize(A, BNB_TERNARY, BNB_ABSMEAN, 256, blocks, &scale), kWrong, {"out has 162 elements, must have 192 (four codes a byte)"});
  expect(quantize(A, BNB_TERNARY, BNB_ABSMEAN, 256, bytes, nullptr), kWrong, {"scale is NULL"});
  expect(quantize(A, BNB_TERNARY, BNB_ABSMEAN, 255, bytes, &scale), kWrong, {"scale has 3 elements, must have 4"});
  expect(quantize(short_rows, BNB_TQ1_0, BNB_ABSMAX, 256, blocks, &scale), kWrong,
         {"A has rows of 128 elements, must have a multiple of 256 (blocks of BNB_TQ1_0 and BNB_TQ2_0)"});
  expect(quantize(A, BNB_TQ1_0, BNB_ABSMAX, 384, blocks, &scale), kWrong, {"blocksize is 384, must be a multiple of 256 or at least"});
  expect(quantize(A, BNB_TQ1_0, BNB_ABSMAX, 256, bytes, &scale), kWrong, {"out has 192 elements, must have 162 (54 bytes for 256"});
  expect(quantize(A, BNB_TQ2_0, BNB_ABSMAX, 256, bytes, &scale), kWrong, {"out has 192 elements, must have 198 (66 bytes for 256"});
  expect(quantize(A, BNB_TQ1_0, BNB_ABSMAX, 256, signs, &scale), kWrong, {"out is int8, must be uint8"});
  const auto dequantize = [&](Array &codes, Array *s, int type, int64_t blocksize, Array &out) {
    return cdequantize_ternary(&codes.tensor, s ? &s->tensor : nullptr, bnb_quant_type(type), blocksize, &out.tensor, nullptr);
  };
  expect(dequantize(blocks, &scale, BNB_TQ1_0, 256, A), kWrong, {"cdequantize_ternary: scale is not NULL"});
  expect(dequantize(blocks, nullptr, BNB_TQ1_0, 256, short_rows), kWrong, {"out has rows of 128 elements"});
  expect(dequantize(bytes, nullptr, BNB_TERNARY, 256, A), kWrong, {"scale is NULL"});
  expect(dequantize(bytes, &scale, BNB_TERNARY, -5, A), kWrong, {"blocksize is -5"});
  expect(dequantize(blocks, &scale, BNB_TERNARY, 256, A), kWrong, {"A has 162 elements, must have 192"});
  CHECK(A.untouched() && bytes.untouched() && blocks.untouched() && scale.untouched());
  CHECK(dequantize(blocks, nullptr, BNB_TQ1_0, -5, A) == BNB_OK);
  CHECK(quantize(A, BNB_TQ1_0, BNB_ABSMAX, INT64_MAX, blocks, nullptr) == BNB_OK);
}

void int8_products() {
  constexpr bnb_status kWrong = BNB_ERROR_INVALID_ARGUMENT;
  Array A{kI8, {3, 8}}, B{kI8, {5, 8}}, narrow{kI8, {5, 7}}, out{kI32, {3, 5}}, turned{kI32, {5, 3}}, floats{kF32, {3, 5}};
  expect(cgemm_int8(&A.tensor, &narrow.tensor, &out.tensor, nullptr), kWrong,
         {"cgemm_int8: B has shape [5, 7], must have 8 columns as A, [3, 8], has"});
  expect(cgemm_int8(&A.tensor, &B.tensor, &turned.tensor, nullptr), kWrong, {"out has shape [5, 3], must have [3, 5]"});
  expect(cgemm_int8(&A.tensor, &B.tensor, &floats.tensor, nullptr), kWrong, {"out is float32, must be int32"});
  Array wide_a{kI8, {0, 131072}}, wide_b{kI8, {0, 131072}}, empty{kI32, {0, 0}};  // 131072 * 128 * 128 is 2^31
  expect(cgemm_int8(&wide_a.tensor, &wide_b.tensor, &empty.tensor, nullptr), kWrong, {"A has 131072 columns", "at most 131071"});
  wide_a.shape[1] = wide_b.shape[1] = 131071;
  CHECK(cgemm_int8(&wide_a.tensor, &wide_b.tensor, &empty.tensor, nullptr) == BNB_OK);

  Array rows{kF32, {3}}, cols{kF32, {5}}, X{kF32, {3, 8}}, list{kI64, {2}}, long_list{kI64, {9}}, bias{kF32, {4}};
  const auto mixed = [&](Array &columns, Array *b) {
    return cgemm_int8_mixed(&X.tensor, &A.tensor, &B.tensor, &rows.tensor, &cols.tensor, &columns.tensor, b ? &b->tensor : nullptr,
                            &floats.tensor, nullptr);
  };
  const auto columns = [&](int64_t first, int64_t second) {
    const int64_t values[2] = {first, second};
    std::memcpy(list.bytes.data(), values, sizeof values);
    return mixed(list, nullptr);
  };
  expect(columns(3, 8), kWrong, {"cgemm_int8_mixed: outlier_cols[1] is 8, must be a column of A, 0 to 7"});
  expect(columns(-1, 2), kWrong, {"outlier_cols[0] is -1"});
  expect(columns(4, 4), kWrong, {"outlier_cols[1] is 4", "above those before it"});
  expect(mixed(long_list, nullptr), kWrong, {"outlier_cols has 9 elements, more than A has columns, 8"});
  expect(mixed(list, &bias), kWrong, {"bias has 4 elements, must have 5"});
  expect(cgemm_int8_scaled(&A.tensor, &B.tensor, &cols.tensor, &cols.tensor, nullptr, &floats.tensor, nullptr), kWrong,
         {"row_stats has 5 elements, must have 3 (one per row of out)"});
  expect(clinear_int8(&X.tensor, &B.tensor, &cols.tensor, -2.0f, nullptr, &floats.tensor, nullptr), kWrong,
         {"clinear_int8: threshold is -2"});
  CHECK(out.untouched() && floats.untouched());
  CHECK(columns(0, 7) == BNB_OK);
}

void ternary_products() {
  constexpr bnb_status kWrong = BNB_ERROR_INVALID_ARGUMENT;
  Array A{kI8, {3, 8}}, X{kF32, {3, 8}}, B{kU8, {5, 2}}, out{kF32, {3, 5}};
  Array rows{kF32, {3}}, two{kF32, {2}}, one{kF32, {1}}, scales{kF32, {10}};
  const auto multiply = [&](const Array &b, const Array &stats, const Array *scale, bnb_quant_type type, int64_t blocksize) {
    return cgemm_ternary(&A.tensor, &b.tensor, &stats.tensor, scale ? &scale->tensor : nullptr, type, blocksize, nullptr, &out.tensor,
                         nullptr);
  };
  expect(multiply(B, rows, &one, BNB_NF4, 8), kWrong, {"cgemm_ternary: quant_type is 2", "BNB_TERNARY", "BNB_TQ2_0"});
  expect(multiply(rows, rows, &one, BNB_TERNARY, 40), kWrong, {"B is float32"});
  expect(multiply(A, rows, &one, BNB_TERNARY, 40), kWrong, {"B has 24 elements, must have 10 (four codes a byte)"});
  expect(multiply(B, two, &one, BNB_TERNARY, 40), kWrong, {"row_stats has 2 elements, must have 3 (one per row of A) or 1"});
  for (int64_t blocksize : {3, 12, 39}) {
    expect(multiply(B, rows, &one, BNB_TERNARY, blocksize), kWrong, {"blocksize is", "must divide the 8 columns of A", "multiple", "40"});
  }
  expect(multiply(B, rows, &one, BNB_TERNARY, 0), kWrong, {"blocksize is 0"});
  expect(multiply(B, rows, &one, BNB_TERNARY, 4), kWrong, {"scale has 1 elements, must have 10"});
  expect(multiply(B, rows, nullptr, BNB_TERNARY, 4), kWrong, {"scale is NULL"});
  expect(multiply(B, rows, nullptr, BNB_TQ2_0, 0), kWrong, {"A has rows of 8 elements, must have a multiple of 256"});
  Array wide{kI8, {0, 256}}, empty{kF32, {0, 1}}, none{kF32, {0}}, block{kU8, {66}};
  Array deep{kI8, {0, 8388608}}, nothing{kF32, {0, 0}}, no_codes{kU8, {0}};
  const auto blocks = [&](const Array &b, const Array *scale) {
    return cgemm_ternary(&wide.tensor, &b.tensor, &none.tensor, scale ? &scale->tensor : nullptr, BNB_TQ2_0, 0, nullptr, &empty.tensor,
                         nullptr);
  };
  expect(blocks(block, &one), kWrong, {"scale is not NULL", "carry their scales"});
  expect(blocks(B, nullptr), kWrong, {"B has 10 elements, must have 66"});
  CHECK(blocks(block, nullptr) == BNB_OK);
  const auto deep_sums = [&] {
    return cgemm_ternary(&deep.tensor, &no_codes.tensor, &none.tensor, &none.tensor, BNB_TERNARY, 1, nullptr, &nothing.tensor, nullptr);
  };
  expect(deep_sums(), kWrong, {"A has 8388608 columns", "at most 8388607"});  // 8388608 * 128 * 2 is 2^31
  deep.shape[1] = 8388607;
  CHECK(deep_sums() == BNB_OK);
  expect(clinear_ternary(&X.tensor, &B.tensor, &one.tensor, BNB_TERNARY, 40, 2, nullptr, &out.tensor, nullptr), kWrong,
         {"clinear_ternary: per_tensor is 2, must be 0 or 1"});
  expect(clinear_ternary(&A.tensor, &B.tensor, &one.tensor, BNB_TERNARY, 40, 0, nullptr, &out.tensor, nullptr), kWrong, {"A is int8"});
  CHECK(out.untouched());
  CHECK(multiply(B, rows, &one, BNB_TERNARY, INT64_MAX) == BNB_OK && multiply(B, one, &scales, BNB_TERNARY, 4) == BNB_OK);
}

void sparse_products() {
  constexpr bnb_status kWrong = BNB_ERROR_INVALID_ARGUMENT;
  Array rowidx{kI32, {2}}, colidx{kI32, {2}}, values{kF32, {2}}, B{kF32, {6, 4}}, out{kF32, {3, 4}}, stats{kF32, {4}}, two{kF32, {2}};
  const auto multiply = [&](int32_t row, int32_t col, const DLTensor *scale, const DLTensor *s, int32_t transposed) {
    const int32_t rows[2] = {0, row}, cols[2] = {0, col};
    std::memcpy(rowidx.bytes.data(), rows, sizeof rows);
    std::memcpy(colidx.bytes.data(), cols, sizeof cols);
    return cgemm_coo(&rowidx.tensor, &colidx.tensor, &values.tensor, scale, &B.tensor, s, transposed, &out.tensor, nullptr);
  };
  expect(multiply(3, 0, nullptr, nullptr, 0), kWrong, {"cgemm_coo: rowidx[1] is 3, must be 0 to 2"});
  expect(multiply(0, 6, nullptr, nullptr, 0), kWrong, {"cgemm_coo: colidx[1] is 6, must be 0 to 5"});
  expect(multiply(0, -1, nullptr, nullptr, 0), kWrong, {"colidx[1] is -1"});
  expect(multiply(0, 0, &two.tensor, nullptr, 0), kWrong, {"values_scale has 2 elements, must have 1"});
  expect(multiply(0, 0, nullptr, &stats.tensor, 0), kWrong, {"col_stats belong to an int8 B, but it is float32"});
  expect(multiply(0, 0, nullptr, nullptr, 1), kWrong, {"out has shape [3, 4], must have 6 columns as the transposed B, [6, 4], has"});
  expect(multiply(0, 0, nullptr, nullptr, 2), kWrong, {"transposed_B is 2, must be 0 or 1"});
  CHECK(out.untouched());
  CHECK(multiply(2, 5, nullptr, nullptr, 0) == BNB_OK);
}

}  // namespace

int main() {
  unit::run("descriptors", descriptors);
  unit::run("sizes", sizes);
  unit::run("microscaling", microscaling);
  unit::run("devices", devices);
  unit::run("overlaps", overlaps);
  unit::run("codes", codes);
  unit::run("matrices", matrices);
  unit::run("nested", nested);
  unit::run("ternary", ternary);
  unit::run("int8_products", int8_products);
  unit::run("ternary_products", ternary_products);
  unit::run("sparse_products", sparse_products);
  return unit::summary();
}
