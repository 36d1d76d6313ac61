// SPDX-License-Identifier: MIT
// bitsandbytes' names for managed memory, contexts and CPU features.
#include "api/bitsandbytes_call.h"
#include "cpu/features.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// What callers pass back as their context: an address, and nothing behind it that could leak.
char context;

}  // namespace

void *cget_managed_ptr(size_t bytes) {
  void *data = nullptr;
  as("cget_managed_ptr", bnb_allocate_managed(kPointerDevice, bytes, &data));
  return data;
}

bnb_status cprefetch(void *ptr, size_t bytes, int device) {
  if (device < -1) return fail(BNB_ERROR_INVALID_ARGUMENT, "cprefetch: device is %d, must be -1 or above", device);
  return as("cprefetch", bnb_prefetch(ptr, bytes, kPointerDevice, nullptr));
}

void *get_context(void) { return &context; }
void *get_cusparse(void) { return &context; }

bool has_avx512f_cpu(void) {
  static const bool available = (cpu::detect_features() & cpu::kAVX512) != 0;
  return available;
}
