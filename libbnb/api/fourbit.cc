// SPDX-License-Identifier: MIT
// cquantize_4bit and cdequantize_4bit.
#include "api/absmax.h"

using namespace bnb;
using namespace bnb::api;

namespace {

void check_quant_type(Check &check, bnb_quant_type quant_type) {
  check.that(quant_type == BNB_FP4 || quant_type == BNB_NF4, "quant_type is %d, must be BNB_FP4 (1) or BNB_NF4 (2)",
             int(quant_type));
}

// Packed codes may be stored in any whole-byte dtype: their bytes are what counts, rounded up to whole items.
void check_packed(Check &check, const char *name, const View &packed, int64_t n) {
  if (!check.ok()) return;
  const int64_t itemsize = packed.dlpack_dtype.bits / 8;
  const bool whole = packed.dlpack_dtype.lanes == 1 && (itemsize == 1 || itemsize == 2 || itemsize == 4 || itemsize == 8) &&
                     packed.dlpack_dtype.bits % 8 == 0;
  check.that(whole, "%s is %s, must have items of 1, 2, 4 or 8 bytes", name, dtype_name(packed.dlpack_dtype));
  if (!check.ok()) return;
  const int64_t expected = ceil_div(ceil_div(n, 2), itemsize) * itemsize;
  check.that(packed.bytes == expected, "%s has %lld bytes, must have %lld (two codes a byte for %lld elements)", name,
             (long long)packed.bytes, (long long)expected, (long long)n);
}

}  // namespace

bnb_status cquantize_4bit(const DLTensor *A, bnb_quant_type quant_type, int64_t blocksize, DLTensor *out,
                          DLTensor *absmax, void *stream) {
  Check check("cquantize_4bit");
  const View a = check.input("A", A, kFloats);
  check_quant_type(check, quant_type);
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
  check_quant_type(check, quant_type);
  check.blocksize("blocksize", blocksize, true);
  const View packed = check.input("A", A, kAnyDType);
  check_packed(check, "A", packed, o.n);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_absmax(check, "absmax", absmax, nested, block_count(o.n, blocksize));
  return check.run(&Backend::dequantize_4bit,
                   {o.dtype, static_cast<const uint8_t *>(packed.data), scales, quant_type, o.n, blocksize, o.data},
                   stream);
}
