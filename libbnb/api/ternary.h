// SPDX-License-Identifier: MIT
// Validation of ternary codes, for the functions that write them and those that read them.
#ifndef BNB_API_TERNARY_H_
#define BNB_API_TERNARY_H_

#include "api/check.h"

namespace bnb::api {

// BNB_TERNARY or one of the TQ types.
void check_quant_type_ternary(Check &check, bnb_quant_type quant_type);

// Whether codes come in GGUF's blocks of 256, which carry their scales.
bool is_tq(bnb_quant_type quant_type);

// The last dimension of weights is whole blocks of a TQ type. `name` has them, or will.
void check_rows_ternary(Check &check, const char *name, const View &weights, bnb_quant_type quant_type);

// The bytes of n codes, and the dtypes that they may come in.
uint32_t code_dtypes_ternary(bnb_quant_type quant_type);
void check_codes_ternary(Check &check, const char *name, const View &codes, bnb_quant_type quant_type, int64_t n);

}  // namespace bnb::api

#endif  // BNB_API_TERNARY_H_
