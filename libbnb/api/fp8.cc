// SPDX-License-Identifier: MIT
// cquantize_fp8 and cdequantize_fp8.
#include "api/fp8.h"

using namespace bnb;
using namespace bnb::api;

uint32_t bnb::api::check_quant_type_fp8(Check &check, bnb_quant_type quant_type) {
  check.that(quant_type == BNB_FP8_E4M3FN || quant_type == BNB_FP8_E5M2,
             "quant_type is %d, must be BNB_FP8_E4M3FN (3) or BNB_FP8_E5M2 (4)", int(quant_type));
  return bit(DType::kU8) | bit(quant_type == BNB_FP8_E4M3FN ? DType::kF8E4M3FN : DType::kF8E5M2);
}

bnb_status cquantize_fp8(const DLTensor *A, bnb_quant_type quant_type, int64_t blocksize, DLTensor *out,
                         DLTensor *scale, void *stream) {
  Check check("cquantize_fp8");
  const View a = check.input("A", A, kFloats);
  const uint32_t code_dtypes = check_quant_type_fp8(check, quant_type);
  check.blocksize("blocksize", blocksize);
  const View o = check.output("out", out, code_dtypes);
  check.elements("out", o, a.n, "one per element of A");
  const View scales = check.output("scale", scale, bit(DType::kF32));
  if (check.ok()) check.elements("scale", scales, block_count(a.n, blocksize), "one per block");
  return check.run(&Backend::quantize_fp8,
                   {a.dtype, a.data, quant_type, a.n, blocksize, static_cast<uint8_t *>(o.data), scales.data}, stream);
}

bnb_status cdequantize_fp8(const DLTensor *A, const DLTensor *scale, bnb_quant_type quant_type, int64_t blocksize,
                           DLTensor *out, void *stream) {
  Check check("cdequantize_fp8");
  const uint32_t code_dtypes = check_quant_type_fp8(check, quant_type);
  const View a = check.input("A", A, code_dtypes);
  check.blocksize("blocksize", blocksize);
  const View scales = check.input("scale", scale, bit(DType::kF32));
  if (check.ok()) check.elements("scale", scales, block_count(a.n, blocksize), "one per block");
  const View o = check.output("out", out, kFloats);
  check.elements("out", o, a.n, "one per element of A");
  return check.run(&Backend::dequantize_fp8,
                   {o.dtype, static_cast<const uint8_t *>(a.data), scales.data, quant_type, a.n, blocksize, o.data},
                   stream);
}
