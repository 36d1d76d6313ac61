// SPDX-License-Identifier: MIT
// Validation of the scales that several operations read: fp32 absmax, or a nested one.
#ifndef BNB_API_ABSMAX_H_
#define BNB_API_ABSMAX_H_

#include "api/check.h"

namespace bnb::api {

inline constexpr int64_t kCodeSize = 256;

// nb: the expected number of blocks. nested may be NULL.
AbsmaxView check_absmax(Check &check, const char *name, const DLTensor *absmax, const bnb_nested *nested, int64_t nb);

}  // namespace bnb::api

#endif  // BNB_API_ABSMAX_H_
