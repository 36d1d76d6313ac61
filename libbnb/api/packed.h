// SPDX-License-Identifier: MIT
// Validation of packed 4-bit codes, for the functions that write them and those that read them.
#ifndef BNB_API_PACKED_H_
#define BNB_API_PACKED_H_

#include "api/check.h"

namespace bnb::api {

void check_quant_type_4bit(Check &check, bnb_quant_type quant_type);

// Packed codes of n elements may be stored in any whole-byte dtype: their bytes are what counts, rounded up to whole items.
void check_packed(Check &check, const char *name, const View &packed, int64_t n);

// The same for a matrix of rows x cols = n codes, whose shape an error then names.
void check_packed(Check &check, const char *name, const View &packed, int64_t n, int64_t rows, int64_t cols);

}  // namespace bnb::api

#endif  // BNB_API_PACKED_H_
