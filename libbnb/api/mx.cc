// SPDX-License-Identifier: MIT
// cquantize_mx and cdequantize_mx.
#include "api/mx.h"

using namespace bnb;
using namespace bnb::api;

namespace {

constexpr uint32_t kE8M0 = bit(DType::kU8) | bit(DType::kF8E8M0FNU), kE4M3FN = bit(DType::kU8) | bit(DType::kF8E4M3FN);
constexpr uint32_t kE5M2 = bit(DType::kU8) | bit(DType::kF8E5M2), kE2M1 = bit(DType::kU8) | bit(DType::kF4E2M1FNx2);

constexpr MxFormat kFormats[] = {
    {BNB_MXFP4, formats::mx::kBlock, 2, kE2M1, kE8M0, ScaleKind::kE8M0},
    {BNB_MXFP8_E4M3FN, formats::mx::kBlock, 1, kE4M3FN, kE8M0, ScaleKind::kE8M0},
    {BNB_MXFP8_E5M2, formats::mx::kBlock, 1, kE5M2, kE8M0, ScaleKind::kE8M0},
    {BNB_NVFP4, formats::mx::kNvfp4Block, 2, kE2M1, kE4M3FN, ScaleKind::kE4M3FN},
};

static_assert(int(BNB_MX_FLOOR) == int(formats::mx::kFloor) && int(BNB_MX_CEIL) == int(formats::mx::kCeil) &&
                  int(BNB_MX_EVEN) == int(formats::mx::kEven) && int(BNB_MX_RCEIL) == int(formats::mx::kRceil),
              "rules have one number");

void check_no_tensor_scale(Check &check, const MxFormat &format, const DLTensor *tensor_scale) {
  check.that(!tensor_scale || format.scale_kind == ScaleKind::kE4M3FN,
             "tensor_scale is not NULL, but quant_type is %d: only BNB_NVFP4 (11) has one", int(format.quant_type));
}

}  // namespace

const MxFormat &bnb::api::check_quant_type_mx(Check &check, bnb_quant_type quant_type) {
  for (const MxFormat &format : kFormats) {
    if (format.quant_type == quant_type) return format;
  }
  check.that(false,
             "quant_type is %d, must be BNB_MXFP4 (8), BNB_MXFP8_E4M3FN (9), BNB_MXFP8_E5M2 (10) or BNB_NVFP4 (11)",
             int(quant_type));
  return kFormats[0];
}

void bnb::api::check_mx_rows(Check &check, const MxFormat &format, const char *name, int64_t cols) {
  check.that(cols % format.blocksize == 0,
             "%s has rows of %lld elements, must have a multiple of %lld, the block of the format", name,
             (long long)cols, (long long)format.blocksize);
}

void bnb::api::check_mx_codes(Check &check, const MxFormat &format, const char *name, const View &codes, int64_t n) {
  if (!check.ok()) return;
  check.elements(name, codes, n / format.codes_a_byte,
                 format.codes_a_byte == 2 ? "two codes a byte" : "one per element");
}

AbsmaxView bnb::api::check_mx_scales(Check &check, const MxFormat &format, const DLTensor *scale,
                                     const DLTensor *tensor_scale, int64_t n) {
  AbsmaxView view;
  const View scales = check.input("scale", scale, format.scale_dtypes);
  if (check.ok()) check.elements("scale", scales, n / format.blocksize, "one per block");
  check_no_tensor_scale(check, format, tensor_scale);
  view.kind = format.scale_kind;
  view.codes = static_cast<const uint8_t *>(scales.data);
  if (!check.ok() || !tensor_scale) return view;
  const View of_tensor = check.input("tensor_scale", tensor_scale, bit(DType::kF32));
  if (check.ok()) check.elements("tensor_scale", of_tensor, 1, "the scale of the tensor");
  view.tensor_scale = of_tensor.data;
  return view;
}

bnb_status cquantize_mx(const DLTensor *A, bnb_quant_type quant_type, bnb_mx_scale rule, DLTensor *out, DLTensor *scale,
                        DLTensor *tensor_scale, void *stream) {
  Check check("cquantize_mx");
  const View a = check.input("A", A, kFloats);
  const MxFormat &format = check_quant_type_mx(check, quant_type);
  check.that(rule >= BNB_MX_FLOOR && rule <= BNB_MX_RCEIL, "rule is %d, must be BNB_MX_FLOOR (0) .. BNB_MX_RCEIL (3)",
             int(rule));
  check.that(a.ndim > 0, "A has no dimensions, must have at least 1");
  if (check.ok()) check_mx_rows(check, format, "A", a.shape[a.ndim - 1]);
  const View o = check.output("out", out, format.code_dtypes);
  check_mx_codes(check, format, "out", o, a.n);
  const View scales = check.output("scale", scale, format.scale_dtypes);
  if (check.ok()) check.elements("scale", scales, a.n / format.blocksize, "one per block");
  check_no_tensor_scale(check, format, tensor_scale);
  View of_tensor;
  if (tensor_scale) {
    of_tensor = check.output("tensor_scale", tensor_scale, bit(DType::kF32));
    if (check.ok()) check.elements("tensor_scale", of_tensor, 1, "the scale of the tensor");
  }
  return check.run(&Backend::quantize_mx,
                   {a.dtype, a.data, quant_type, rule, a.n, format.blocksize, static_cast<uint8_t *>(o.data),
                    static_cast<uint8_t *>(scales.data), of_tensor.data},
                   stream);
}

bnb_status cdequantize_mx(const DLTensor *A, const DLTensor *scale, const DLTensor *tensor_scale,
                          bnb_quant_type quant_type, DLTensor *out, void *stream) {
  Check check("cdequantize_mx");
  const View o = check.output("out", out, kFloats);
  const MxFormat &format = check_quant_type_mx(check, quant_type);
  if (check.ok()) {
    check.that(o.n % format.blocksize == 0,
               "out has %lld elements, must have a multiple of %lld, the block of the format", (long long)o.n,
               (long long)format.blocksize);
  }
  const View codes = check.input("A", A, format.code_dtypes);
  check_mx_codes(check, format, "A", codes, o.n);
  if (!check.ok()) return check.finish();
  const AbsmaxView scales = check_mx_scales(check, format, scale, tensor_scale, o.n);
  return check.run(
      &Backend::dequantize_mx,
      {o.dtype, static_cast<const uint8_t *>(codes.data), scales, quant_type, o.n, format.blocksize, o.data}, stream);
}
