// SPDX-License-Identifier: MIT
// cquantize_4bit and cdequantize_4bit.
#include "api/absmax.h"
#include "api/packed.h"

using namespace bnb;
using namespace bnb::api;

bnb_status cquantize_4bit(const DLTensor *A, bnb_quant_type quant_type, int64_t blocksize, DLTensor *out,
                          DLTensor *absmax, void *stream) {
  Check check("cquantize_4bit");
  const View a = check.input("A", A, kFloats);
  check_quant_type_4bit(check, quant_type);
  check.blocksize("blocksize", blocksize, true);
  const View packed = check.output("out", out, kAnyDType);
  check_packed(check, "out", packed, a.n);
  const View scales = check.output("absmax", absmax, bit(DType::kF32));
  if (check.ok()) check.elements("absmax", scales, block_count(a.n, blocksize), "one per block");
  const Quantize4bitArgs args{a.dtype, a.data, quant_type, a.n, blocksize, static_cast<uint8_t *>(packed.data), packed.bytes,
                              scales.data};
  return check.run(&Backend::quantize_4bit, args, stream);
}

bnb_status cdequantize_4bit(const DLTensor *A, const DLTensor *absmax, const bnb_nested *nested,
                            bnb_quant_type quant_type, int64_t blocksize, DLTensor *out, void *stream) {
  Check check("cdequantize_4bit");
  const View o = check.output("out", out, kFloats);
  check_quant_type_4bit(check, quant_type);
  check.blocksize("blocksize", blocksize, true);
  const View packed = check.input("A", A, kAnyDType);
  check_packed(check, "A", packed, o.n);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_absmax(check, "absmax", absmax, nested, block_count(o.n, blocksize));
  return check.run(&Backend::dequantize_4bit,
                   {o.dtype, static_cast<const uint8_t *>(packed.data), scales, quant_type, o.n, blocksize, o.data},
                   stream);
}
