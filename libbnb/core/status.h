// SPDX-License-Identifier: MIT
// How anything in the library fails: a status code for the caller, and words for bnb_last_error().
#ifndef BNB_CORE_STATUS_H_
#define BNB_CORE_STATUS_H_

#include <bnb/bnb.h>

#if defined(__GNUC__)
#define BNB_PRINTF(text, args) __attribute__((format(printf, text, args)))
#else
#define BNB_PRINTF(text, args)
#endif

namespace bnb {

// Stores the formatted text as the calling thread's last error and returns `status`.
bnb_status fail(bnb_status status, const char *format, ...) BNB_PRINTF(2, 3);

}  // namespace bnb

#endif  // BNB_CORE_STATUS_H_
