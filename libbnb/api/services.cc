// SPDX-License-Identifier: MIT
// bnb_<verb>: versions, backends and devices, memory. Errors live in core/status.cc, instruction sets in
// cpu/dispatch.cc, threads in cpu/threads.cc.
#include <bnb/workspace.h>

#include <cstring>

#include "core/backend.h"
#include "core/launches.h"
#include "core/status.h"
#include "core/workspace.h"

using namespace bnb;

namespace {

const Backend *find_backend(const char *function, DLDevice device, bnb_status *status) {
  const Backend *backend = backend_for(device.device_type);
  if (!backend) {
    *status = fail(BNB_ERROR_UNSUPPORTED, "%s: device type %d, which this library has no backend for", function,
                   int(device.device_type));
  } else if (device.device_id < 0 || device.device_id >= backend->device_count()) {
    *status = fail(BNB_ERROR_INVALID_ARGUMENT, "%s: %s device %d does not exist", function, backend->name,
                   int(device.device_id));
    return nullptr;
  }
  return backend;
}

bnb_status null_argument(const char *function, const char *name) {
  return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: %s is NULL", function, name);
}

// A stream is one on which work can be queued.
bool is_queue(const char *function, const void *stream, bnb_status *status) {
  if (!launches::records(stream)) return true;
  *status = fail(BNB_ERROR_INVALID_ARGUMENT, "%s: stream is bnb_metal_recorder(), which is for operations", function);
  return false;
}

}  // namespace

uint32_t bnb_abi_version(void) { return BNB_ABI_VERSION; }
const char *bnb_version(void) { return BNB_VERSION; }

const char *bnb_backend_name(int32_t index) {
  const Backend *backend = backend_at(index);
  return backend ? backend->name : nullptr;
}

int32_t bnb_device_count(const char *name) {
  for (int32_t i = 0; name && backend_at(i); ++i) {
    if (std::strcmp(backend_at(i)->name, name) == 0) return backend_at(i)->device_count();
  }
  return 0;
}

bnb_status bnb_allocate(DLDevice device, size_t bytes, void **data) {
  if (!data) return null_argument("bnb_allocate", "data");
  bnb_status status;
  const Backend *backend = find_backend("bnb_allocate", device, &status);
  return backend ? backend->allocate(device, bytes, data) : status;
}

bnb_status bnb_allocate_managed(DLDevice device, size_t bytes, void **data) {
  if (!data) return null_argument("bnb_allocate_managed", "data");
  bnb_status status;
  const Backend *backend = find_backend("bnb_allocate_managed", device, &status);
  return backend ? backend->allocate_managed(device, bytes, data) : status;
}

bnb_status bnb_free(DLDevice device, void *data) {
  bnb_status status;
  const Backend *backend = find_backend("bnb_free", device, &status);
  return backend ? backend->release(device, data) : status;
}

bnb_status bnb_copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream) {
  if (bytes && !destination) return null_argument("bnb_copy", "destination");
  if (bytes && !source) return null_argument("bnb_copy", "source");
  bnb_status status;
  if (!is_queue("bnb_copy", stream, &status)) return status;
  const Backend *target = find_backend("bnb_copy", to, &status);
  const Backend *origin = target ? find_backend("bnb_copy", from, &status) : nullptr;
  if (!origin) return status;
  const Backend *backend = to.device_type == kDLCPU ? origin : target;  // a GPU's backend knows both sides
  return backend->copy(to, destination, from, source, bytes, stream);
}

bnb_status bnb_synchronize(DLDevice device, void *stream) {
  bnb_status status;
  if (!is_queue("bnb_synchronize", stream, &status)) return status;
  const Backend *backend = find_backend("bnb_synchronize", device, &status);
  return backend ? backend->synchronize(device, stream) : status;
}

bnb_status bnb_prefetch(const void *data, size_t bytes, DLDevice to, void *stream) {
  if (bytes && !data) return null_argument("bnb_prefetch", "data");
  bnb_status status;
  if (!is_queue("bnb_prefetch", stream, &status)) return status;
  const Backend *backend = find_backend("bnb_prefetch", to, &status);
  if (!backend) return status;
  for (int32_t i = 1; to.device_type == kDLCPU && backend_at(i); ++i) {  // the way to the host is known to where the memory is now
    DLDevice device;
    const Backend *other = backend_at(i);
    if (other->home_of && other->device_count() > 0 && other->home_of(data, &device) == Memory::kManaged) backend = other;
  }
  return backend->prefetch(data, bytes, to, stream);
}

bnb_status bnb_workspace_query(int32_t on) {
  if (on != 0 && on != 1) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_workspace_query: on is %d, must be 0 or 1", int(on));
  workspace::ask(on == 1);
  return BNB_OK;
}

size_t bnb_workspace_bytes(void) { return workspace::most(); }

bnb_status bnb_set_workspace(DLDevice device, void *data, size_t bytes) {
  bnb_status status;
  const Backend *backend = find_backend("bnb_set_workspace", device, &status);
  if (!backend) return status;
  if (!backend->borrow) {
    if (device.device_type == kDLCPU) return BNB_OK;
    return fail(BNB_ERROR_UNSUPPORTED, "bnb_set_workspace: the %s backend cannot be given memory", backend->name);
  }
  if (reinterpret_cast<uintptr_t>(data) % workspace::kAlignment != 0) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_set_workspace: data is not aligned to %zu bytes", workspace::kAlignment);
  }
  DLDevice home;
  const Memory memory = data ? backend->home_of(data, &home) : Memory::kManaged;
  if (memory == Memory::kHost || (memory == Memory::kDevice && home.device_id != device.device_id)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_set_workspace: data is not memory of %s device %d", backend->name,
                int(device.device_id));
  }
  if (workspace::give(device.device_id, data, bytes)) return BNB_OK;
  return fail(BNB_ERROR_UNSUPPORTED, "bnb_set_workspace: only the first %d devices can be given memory", int(workspace::kMaxDevices));
}
