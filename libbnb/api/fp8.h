// SPDX-License-Identifier: MIT
// Validation of FP8 codes, for the functions that write them and those that read them.
#ifndef BNB_API_FP8_H_
#define BNB_API_FP8_H_

#include "api/check.h"

namespace bnb::api {

// The dtypes that codes may come in: plain bytes, or the float8 that they are.
uint32_t check_quant_type_fp8(Check &check, bnb_quant_type quant_type);

}  // namespace bnb::api

#endif  // BNB_API_FP8_H_
