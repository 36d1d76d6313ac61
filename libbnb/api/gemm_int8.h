// SPDX-License-Identifier: MIT
// What every name of the int8 product checks.
#ifndef BNB_API_GEMM_INT8_H_
#define BNB_API_GEMM_INT8_H_

#include "api/check.h"

namespace bnb::api {

// Sums of k products must fit in int32. name: the tensor that k is of.
void check_products(Check &check, const char *name, int64_t k);

}  // namespace bnb::api

#endif  // BNB_API_GEMM_INT8_H_
