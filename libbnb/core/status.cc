// SPDX-License-Identifier: MIT
// The calling thread's last error, and the names of the status codes.
#include "core/status.h"

#include <cstdarg>
#include <cstdio>

namespace bnb {
namespace {

// Long enough for a function, an argument and two shapes; longer texts are cut.
thread_local char last_error[512] = "";

}  // namespace

bnb_status fail(bnb_status status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(last_error, sizeof last_error, format, args);
  va_end(args);
  return status;
}

}  // namespace bnb

const char *bnb_last_error(void) { return bnb::last_error; }

const char *bnb_status_name(bnb_status status) {
  switch (status) {
    case BNB_OK: return "OK";
    case BNB_ERROR_INVALID_ARGUMENT: return "INVALID_ARGUMENT";
    case BNB_ERROR_UNSUPPORTED: return "UNSUPPORTED";
    case BNB_ERROR_OUT_OF_MEMORY: return "OUT_OF_MEMORY";
    case BNB_ERROR_DEVICE: return "DEVICE";
    case BNB_ERROR_INTERNAL: return "INTERNAL";
  }
  return "unknown status";
}
