// SPDX-License-Identifier: MIT
// cgemm_4bit, cgemm_fp8 and cgemm_mx.
#include "api/absmax.h"
#include "api/fp8.h"
#include "api/mx.h"
#include "api/packed.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// The rows and columns of A and out agree, and N * K can be counted.
void check_product(Check &check, const View &a, const View &out, int64_t *weights) {
  check.rank("A", a, 2);
  check.rank("out", out, 2);
  if (!check.ok()) return;
  check.that(a.dtype == out.dtype, "out is %s, must be %s as A is", dtype_name(out.dlpack_dtype), dtype_name(a.dlpack_dtype));
  check.that(a.rows() == out.rows(), "out has shape [%lld, %lld], must have %lld rows as A, [%lld, %lld], has",
             (long long)out.rows(), (long long)out.cols(), (long long)a.rows(), (long long)a.rows(), (long long)a.cols());
  check.that(!__builtin_mul_overflow(out.cols(), a.cols(), weights), "weights of [%lld, %lld] are more than 64 bits can count",
             (long long)out.cols(), (long long)a.cols());
}

View check_bias(Check &check, const DLTensor *bias, int64_t n) {
  if (!bias) return {};
  const View view = check.input("bias", bias, kFloats);
  if (check.ok()) check.elements("bias", view, n, "one per column of out");
  return view;
}

}  // namespace

bnb_status cgemm_4bit(const DLTensor *A, const DLTensor *B, const DLTensor *absmax, const bnb_nested *nested,
                      bnb_quant_type quant_type, int64_t blocksize, const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cgemm_4bit");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  const View packed = check.input("B", B, kAnyDType);
  const View o = check.output("out", out, kFloats, Layout::kStridedRows);
  check_quant_type_4bit(check, quant_type);
  check.blocksize("blocksize", blocksize, true);
  int64_t weights = 0;
  check_product(check, a, o, &weights);
  if (!check.ok()) return check.finish();
  const int64_t n = o.cols(), k = a.cols();
  check_packed(check, "B", packed, weights, n, k);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_absmax(check, "absmax", absmax, nested, block_count(weights, blocksize));
  const View b = check_bias(check, bias, n);
  return check.run(&Backend::gemm_4bit,
                   {a.dtype, a.data, a.rows(), n, k, a.row_stride, static_cast<const uint8_t *>(packed.data), scales,
                    quant_type, blocksize, b.dtype, b.data, o.data, o.row_stride},
                   stream);
}

bnb_status cgemm_fp8(const DLTensor *A, const DLTensor *B, const DLTensor *scale, bnb_quant_type quant_type,
                     int64_t blocksize, const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cgemm_fp8");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  const uint32_t code_dtypes = check_quant_type_fp8(check, quant_type);
  const View codes = check.input("B", B, code_dtypes);
  const View o = check.output("out", out, kFloats, Layout::kStridedRows);
  check.blocksize("blocksize", blocksize);
  int64_t weights = 0;
  check_product(check, a, o, &weights);
  check.rank("B", codes, 2);
  if (!check.ok()) return check.finish();
  const int64_t n = o.cols(), k = a.cols();
  check.that(codes.rows() == n && codes.cols() == k,
             "B has shape [%lld, %lld], must have [%lld, %lld]: a row per column of out, a column per column of A",
             (long long)codes.rows(), (long long)codes.cols(), (long long)n, (long long)k);
  const View s = check.input("scale", scale, bit(DType::kF32));
  if (check.ok()) check.elements("scale", s, block_count(weights, blocksize), "one per block");
  AbsmaxView scales;
  scales.absmax = s.data;
  const View b = check_bias(check, bias, n);
  return check.run(&Backend::gemm_fp8,
                   {a.dtype, a.data, a.rows(), n, k, a.row_stride, static_cast<const uint8_t *>(codes.data), scales,
                    quant_type, blocksize, b.dtype, b.data, o.data, o.row_stride},
                   stream);
}

bnb_status cgemm_mx(const DLTensor *A, const DLTensor *B, const DLTensor *scale, const DLTensor *tensor_scale,
                    bnb_quant_type quant_type, const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cgemm_mx");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  const MxFormat &format = check_quant_type_mx(check, quant_type);
  const View codes = check.input("B", B, format.code_dtypes);
  const View o = check.output("out", out, kFloats, Layout::kStridedRows);
  int64_t weights = 0;
  check_product(check, a, o, &weights);
  check.rank("B", codes, 2);
  if (!check.ok()) return check.finish();
  const int64_t n = o.cols(), k = a.cols();
  check_mx_rows(check, format, "A", k);
  const char *along = format.codes_a_byte == 2 ? "two codes a byte along the columns of A" : "a column per column of A";
  check.that(codes.rows() == n && codes.cols() == k / format.codes_a_byte,
             "B has shape [%lld, %lld], must have [%lld, %lld]: a row per column of out, %s", (long long)codes.rows(),
             (long long)codes.cols(), (long long)n, (long long)(k / format.codes_a_byte), along);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_mx_scales(check, format, scale, tensor_scale, weights);
  const View b = check_bias(check, bias, n);
  return check.run(&Backend::gemm_mx,
                   {a.dtype, a.data, a.rows(), n, k, a.row_stride, static_cast<const uint8_t *>(codes.data), scales, quant_type,
                    format.blocksize, b.dtype, b.data, o.data, o.row_stride},
                   stream);
}
