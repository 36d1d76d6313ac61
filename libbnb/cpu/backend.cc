// SPDX-License-Identifier: MIT
// The CPU as a backend: its operations, and memory services that are the C library's.
#include "core/backend.h"

#include <cstring>

#include "core/status.h"
#include "cpu/ops/ops.h"
#include "cpu/os.h"

namespace bnb::cpu {
namespace {

// Page-locked and managed memory of a GPU are host memory, too; a GPU's own backend, where there is one, comes to own it.
bool owns(DLDeviceType type) { return type == kDLCPU; }

int32_t device_count() { return 1; }

bnb_status allocate(DLDevice, size_t bytes, void **data) {
  void *pages = bytes ? allocate_pages(bytes) : nullptr;
  if (bytes && !pages) return fail(BNB_ERROR_OUT_OF_MEMORY, "bnb_allocate: no memory for %zu bytes", bytes);
  *data = pages;
  return BNB_OK;
}

bnb_status release(DLDevice, void *data) {
  release_pages(data);
  return BNB_OK;
}

bnb_status copy(DLDevice, void *destination, DLDevice, const void *source, size_t bytes, void *) {
  if (bytes) std::memmove(destination, source, bytes);
  return BNB_OK;
}

bnb_status synchronize(DLDevice, void *) { return BNB_OK; }
bnb_status prefetch(const void *, size_t, DLDevice, void *) { return BNB_OK; }

}  // namespace

extern const Backend kBackend;
const Backend kBackend = {
    "cpu", owns, device_count,
#define BNB_OP(op, Args) op,
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP
    allocate, allocate, release, copy, synchronize, prefetch,
};

}  // namespace bnb::cpu
