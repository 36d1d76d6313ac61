// SPDX-License-Identifier: MIT
// The checks of api/packed.h.
#include "api/packed.h"

namespace bnb::api {

void check_quant_type_4bit(Check &check, bnb_quant_type quant_type) {
  check.that(quant_type == BNB_FP4 || quant_type == BNB_NF4, "quant_type is %d, must be BNB_FP4 (1) or BNB_NF4 (2)",
             int(quant_type));
}

namespace {

// The bytes that codes of n elements take in items of this dtype; -1 after saying that there are no such items.
int64_t packed_bytes(Check &check, const char *name, const View &packed, int64_t n) {
  if (!check.ok()) return -1;
  const int64_t itemsize = packed.dlpack_dtype.bits / 8;
  const bool whole = packed.dlpack_dtype.lanes == 1 && (itemsize == 1 || itemsize == 2 || itemsize == 4 || itemsize == 8) &&
                     packed.dlpack_dtype.bits % 8 == 0;
  check.that(whole, "%s is %s, must have items of 1, 2, 4 or 8 bytes", name, dtype_name(packed.dlpack_dtype));
  return check.ok() ? ceil_div(ceil_div(n, 2), itemsize) * itemsize : -1;
}

}  // namespace

void check_packed(Check &check, const char *name, const View &packed, int64_t n) {
  const int64_t expected = packed_bytes(check, name, packed, n);
  check.that(packed.bytes == expected, "%s has %lld bytes, must have %lld (two codes a byte for %lld elements)", name,
             (long long)packed.bytes, (long long)expected, (long long)n);
}

void check_packed(Check &check, const char *name, const View &packed, int64_t n, int64_t rows, int64_t cols) {
  const int64_t expected = packed_bytes(check, name, packed, n);
  check.that(packed.bytes == expected, "%s has %lld bytes, must have %lld (two codes a byte for weights of [%lld, %lld])", name,
             (long long)packed.bytes, (long long)expected, (long long)rows, (long long)cols);
}

}  // namespace bnb::api
