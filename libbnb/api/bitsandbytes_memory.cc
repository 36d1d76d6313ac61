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

// A GPU's if there is one.
void *cget_managed_ptr(size_t bytes) {
  Pointers pointers("cget_managed_ptr");
  void *data = nullptr;
  pointers.finish(bnb_allocate_managed(Pointers::current_device(), bytes, &data));
  return data;
}

bnb_status cprefetch(void *ptr, size_t bytes, int device) {
  Pointers pointers("cprefetch");
  DLDevice to = Pointers::current_device();
  if (device < -1) return fail(BNB_ERROR_INVALID_ARGUMENT, "cprefetch: device is %d, must be -1 or above", device);
  if (device == -1) to = {kDLCPU, 0};
  if (to.device_type != kDLCPU) to.device_id = device;
  return pointers.finish(bnb_prefetch(ptr, bytes, to, nullptr));
}

void *get_context(void) { return &context; }
void *get_cusparse(void) { return &context; }

bool has_avx512f_cpu(void) {
  static const bool available = (cpu::detect_features() & cpu::kAVX512) != 0;
  return available;
}
