// SPDX-License-Identifier: MIT
// Lists of launches (bnb/metal.h).
#include <bnb/metal.h>

#include "core/backend.h"
#include "core/launches.h"
#include "core/status.h"

using namespace bnb;

void *bnb_metal_recorder(void) { return backend_for(kDLMetal) ? launches::recorder() : nullptr; }

const bnb_metal_launch *bnb_metal_take(int64_t *count, size_t *temporary_bytes) {
  if (count && temporary_bytes) return launches::take(count, temporary_bytes);
  fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_take: %s is NULL", count ? "temporary_bytes" : "count");
  return nullptr;
}

bnb_status bnb_metal_play(DLDevice device, const bnb_metal_launch *list, int64_t count, void *temporary, void *stream) {
  const Backend *backend = backend_for(kDLMetal);
  if (!backend) return fail(BNB_ERROR_UNSUPPORTED, "bnb_metal_play: this library has no Metal");
  if (device.device_type != kDLMetal || device.device_id < 0 || device.device_id >= backend->device_count()) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: device (%d, %d) is no Metal device that exists", int(device.device_type),
                int(device.device_id));
  }
  if (count < 0) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: count is %lld", (long long)count);
  if (count > 0 && !list) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: launches is NULL");
  if (launches::records(stream)) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: stream is bnb_metal_recorder()");
  return backend->play(device, list, count, temporary, stream);
}
