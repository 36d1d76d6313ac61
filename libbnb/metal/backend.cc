// SPDX-License-Identifier: MIT
// Metal as a backend: its table of operations and its memory services.
#include "core/backend.h"

#include "metal/device.h"
#include "metal/memory.h"
#include "metal/ops.h"

namespace bnb::metal {
namespace {

bool owns(DLDeviceType type) { return type == kDLMetal; }
bnb_status bytes_of_buffer(DLDevice device, void *handle, uint64_t *bytes) { return buffer_bytes(device.device_id, handle, bytes); }

constexpr Backend make_backend() {
  Backend backend{};
  backend.name = "metal";
  backend.owns = owns;
  backend.device_count = device_count;
#define BNB_METAL_OP(op) backend.op = op;
#include "metal/ops.inc"
#undef BNB_METAL_OP
  backend.allocate = allocate;
  backend.allocate_managed = allocate_managed;
  backend.release = release;
  backend.copy = copy;
  backend.synchronize = synchronize;
  backend.prefetch = prefetch;
  backend.buffer_bytes = bytes_of_buffer;
  backend.buffer_at = buffer_at;
  backend.home_of = home_of;
  backend.play = play;
  return backend;
}

}  // namespace

extern const Backend kBackend;
constexpr Backend kBackend = make_backend();

}  // namespace bnb::metal
