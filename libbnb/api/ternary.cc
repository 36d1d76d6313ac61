// SPDX-License-Identifier: MIT
// cquantize_ternary and cdequantize_ternary.
#include "api/ternary.h"

#include "formats/ternary.h"

using namespace bnb;
using namespace bnb::api;
using namespace bnb::formats::ternary;

void bnb::api::check_quant_type_ternary(Check &check, bnb_quant_type quant_type) {
  check.that(quant_type == BNB_TERNARY || is_tq(quant_type),
             "quant_type is %d, must be BNB_TERNARY (5), BNB_TQ1_0 (6) or BNB_TQ2_0 (7)", int(quant_type));
}

bool bnb::api::is_tq(bnb_quant_type quant_type) { return quant_type == BNB_TQ1_0 || quant_type == BNB_TQ2_0; }

void bnb::api::check_rows_ternary(Check &check, const char *name, const View &weights, bnb_quant_type quant_type) {
  if (!check.ok() || !is_tq(quant_type)) return;
  check.that(weights.ndim > 0, "%s has no dimensions, must have a last one that is a multiple of %d", name, int(kBlock));
  if (!check.ok()) return;
  const int64_t cols = weights.shape[weights.ndim - 1];
  check.that(cols % kBlock == 0, "%s has rows of %lld elements, must have a multiple of %d (blocks of BNB_TQ1_0 and BNB_TQ2_0)",
             name, (long long)cols, int(kBlock));
}

uint32_t bnb::api::code_dtypes_ternary(bnb_quant_type quant_type) {
  return is_tq(quant_type) ? bit(DType::kU8) : bit(DType::kU8) | bit(DType::kI8);
}

void bnb::api::check_codes_ternary(Check &check, const char *name, const View &codes, bnb_quant_type quant_type, int64_t n) {
  if (!check.ok()) return;
  if (!is_tq(quant_type)) return check.elements(name, codes, ceil_div(n, TwoBits::kCodes), "four codes a byte");
  const int64_t bytes = quant_type == BNB_TQ1_0 ? int64_t(TQ1::kBytes) : int64_t(TQ2::kBytes);
  check.elements(name, codes, n / kBlock * bytes, quant_type == BNB_TQ1_0 ? "54 bytes for 256 weights" : "66 bytes for 256 weights");
}

bnb_status cquantize_ternary(const DLTensor *A, bnb_quant_type quant_type, bnb_ternary_scale rule, int64_t blocksize,
                             DLTensor *out, DLTensor *scale, void *stream) {
  Check check("cquantize_ternary");
  const View a = check.input("A", A, kFloats);
  check_quant_type_ternary(check, quant_type);
  check.that(rule == BNB_ABSMEAN || rule == BNB_ABSMAX, "rule is %d, must be BNB_ABSMEAN (0) or BNB_ABSMAX (1)", int(rule));
  check.blocksize("blocksize", blocksize);
  check_rows_ternary(check, "A", a, quant_type);
  check.that(!is_tq(quant_type) || blocksize % kBlock == 0 || blocksize >= a.n,
             "blocksize is %lld, must be a multiple of %d or at least the %lld elements of A (blocks of BNB_TQ1_0 and BNB_TQ2_0)",
             (long long)blocksize, int(kBlock), (long long)a.n);
  const View codes = check.output("out", out, code_dtypes_ternary(quant_type));
  check_codes_ternary(check, "out", codes, quant_type, a.n);
  View scales;
  if (scale || !is_tq(quant_type)) {
    scales = check.output("scale", scale, bit(DType::kF32));
    if (check.ok()) check.elements("scale", scales, block_count(a.n, blocksize), "one per block");
  }
  return check.run(&Backend::quantize_ternary,
                   {a.dtype, a.data, quant_type, rule, a.n, blocksize, static_cast<uint8_t *>(codes.data), scales.data}, stream);
}

bnb_status cdequantize_ternary(const DLTensor *A, const DLTensor *scale, bnb_quant_type quant_type, int64_t blocksize,
                               DLTensor *out, void *stream) {
  Check check("cdequantize_ternary");
  const View o = check.output("out", out, kFloats);
  check_quant_type_ternary(check, quant_type);
  check_rows_ternary(check, "out", o, quant_type);
  const View codes = check.input("A", A, code_dtypes_ternary(quant_type));
  check_codes_ternary(check, "A", codes, quant_type, o.n);
  View scales;
  if (is_tq(quant_type)) {
    check.that(!scale, "scale is not NULL: the blocks of BNB_TQ1_0 and BNB_TQ2_0 carry their scales");
  } else {
    check.blocksize("blocksize", blocksize);
    scales = check.input("scale", scale, bit(DType::kF32));
    if (check.ok()) check.elements("scale", scales, block_count(o.n, blocksize), "one per block");
  }
  return check.run(&Backend::dequantize_ternary,
                   {o.dtype, static_cast<const uint8_t *>(codes.data), scales.data, quant_type, o.n, blocksize, o.data}, stream);
}
