// SPDX-License-Identifier: MIT
// cquantize_blockwise, cquantize_nested, their inverses, and the dynamic maps.
#include <cstring>

#include "api/absmax.h"
#include "formats/dynamic_map.h"

namespace bnb::api {

AbsmaxView check_absmax(Check &check, const char *name, const DLTensor *absmax, const bnb_nested *nested, int64_t nb) {
  AbsmaxView view;
  const View scales = check.input(name, absmax, bit(nested ? DType::kU8 : DType::kF32));
  check.elements(name, scales, nb, "one per block");
  if (!nested) {
    view.absmax = scales.data;
    return view;
  }
  check.blocksize("nested.blocksize", nested->blocksize);
  const View code = check.input("nested.code", nested->code, bit(DType::kF32));
  const View nested_absmax = check.input("nested.absmax", nested->absmax, bit(DType::kF32));
  const View offset = check.input("nested.offset", nested->offset, bit(DType::kF32));
  if (!check.ok()) return view;
  check.elements("nested.code", code, kCodeSize, "one per 8-bit code");
  check.elements("nested.absmax", nested_absmax, block_count(nb, nested->blocksize), "one per nested block");
  check.elements("nested.offset", offset, 1, "a scalar");
  view.kind = ScaleKind::kNested;
  view.codes = static_cast<const uint8_t *>(scales.data);
  view.nested_code = code.data;
  view.nested_absmax = nested_absmax.data;
  view.nested_offset = offset.data;
  view.nested_blocksize = nested->blocksize;
  return view;
}

}  // namespace bnb::api

using namespace bnb;
using namespace bnb::api;

bnb_status cquantize_blockwise(const DLTensor *A, const DLTensor *code, int64_t blocksize, DLTensor *out,
                               DLTensor *absmax, void *stream) {
  Check check("cquantize_blockwise");
  const View a = check.input("A", A, kFloats);
  const View c = check.input("code", code, bit(DType::kF32));
  check.elements("code", c, kCodeSize, "one per 8-bit code");
  check.sorted_code("code", c);
  check.blocksize("blocksize", blocksize);
  const View o = check.output("out", out, bit(DType::kU8));
  check.elements("out", o, a.n, "one per element of A");
  const View scales = check.output("absmax", absmax, bit(DType::kF32));
  if (check.ok()) check.elements("absmax", scales, block_count(a.n, blocksize), "one per block");
  return check.run(&Backend::quantize_blockwise,
                   {a.dtype, a.data, c.data, a.n, blocksize, 0.0f, static_cast<uint8_t *>(o.data), scales.data}, stream);
}

bnb_status cdequantize_blockwise(const DLTensor *A, const DLTensor *absmax, const DLTensor *code, int64_t blocksize,
                                 DLTensor *out, void *stream) {
  Check check("cdequantize_blockwise");
  const View a = check.input("A", A, bit(DType::kU8));
  check.blocksize("blocksize", blocksize);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_absmax(check, "absmax", absmax, nullptr, block_count(a.n, blocksize));
  const View c = check.input("code", code, bit(DType::kF32));
  check.elements("code", c, kCodeSize, "one per 8-bit code");
  const View o = check.output("out", out, kFloats);
  check.elements("out", o, a.n, "one per element of A");
  return check.run(&Backend::dequantize_blockwise,
                   {o.dtype, static_cast<const uint8_t *>(a.data), scales, c.data, a.n, blocksize, o.data}, stream);
}

bnb_status cquantize_nested(const DLTensor *absmax, const DLTensor *code, int64_t blocksize, DLTensor *out,
                            DLTensor *nested_absmax, DLTensor *offset, void *stream) {
  Check check("cquantize_nested");
  const View a = check.input("absmax", absmax, bit(DType::kF32));
  const View c = check.input("code", code, bit(DType::kF32));
  check.elements("code", c, kCodeSize, "one per 8-bit code");
  check.sorted_code("code", c);
  check.blocksize("blocksize", blocksize);
  const View o = check.output("out", out, bit(DType::kU8));
  check.elements("out", o, a.n, "one per element of absmax");
  const View scales = check.output("nested_absmax", nested_absmax, bit(DType::kF32));
  if (check.ok()) check.elements("nested_absmax", scales, block_count(a.n, blocksize), "one per block");
  const View mean = check.output("offset", offset, bit(DType::kF32));
  check.elements("offset", mean, 1, "a scalar");
  return check.run(&Backend::quantize_nested,
                   {a.data, c.data, a.n, blocksize, static_cast<uint8_t *>(o.data), scales.data, mean.data}, stream);
}

bnb_status cdequantize_nested(const DLTensor *A, const bnb_nested *nested, DLTensor *out, void *stream) {
  Check check("cdequantize_nested");
  check.that(nested != nullptr, "nested is NULL");
  check.that(A != nullptr, "A is NULL");
  if (!check.ok()) return check.finish();
  const View o = check.output("out", out, bit(DType::kF32));
  const AbsmaxView scales = check_absmax(check, "A", A, nested, o.n);
  return check.run(&Backend::dequantize_nested, {scales, o.n, o.data}, stream);
}

bnb_status bnb_create_dynamic_map(int32_t is_signed, float *code) {
  if (!code) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_create_dynamic_map: code is NULL");
  if (is_signed != 0 && is_signed != 1) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_create_dynamic_map: is_signed is %d, must be 0 or 1", int(is_signed));
  }
  const uint32_t *bits = is_signed ? formats::dynamic_map::kSignedBits : formats::dynamic_map::kUnsignedBits;
  std::memcpy(code, bits, kCodeSize * sizeof(float));
  return BNB_OK;
}
