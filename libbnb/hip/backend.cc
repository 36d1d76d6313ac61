// SPDX-License-Identifier: MIT
// HIP as a backend: the table of gpu/, and what only HIP spells its own way.
#include <cstdlib>
#include <cstring>

#include "gpu/backend.h"
#include "gpu/sdk.h"

namespace bnb::gpu {

Device describe_device(int id) {
  hipDeviceProp_t properties;
  if (hipGetDeviceProperties(&properties, id) != hipSuccess) {
    (void)hipGetLastError();
    return {1, 0, 64, 48 << 10};
  }
  // "gfx90a:sramecc+:xnack-" is 0x90a.
  const char *name = properties.gcnArchName;
  const int arch = std::strncmp(name, "gfx", 3) == 0 ? int(std::strtol(name + 3, nullptr, 16)) : 0;
  return {properties.multiProcessorCount, arch, properties.warpSize, int(properties.sharedMemPerBlock)};
}

// A hint: where the driver cannot, nothing is wrong.
bnb_status prefetch(const void *data, size_t bytes, DLDevice to, void *stream) {
  if (bytes == 0) return BNB_OK;
  const int device = to.device_type == kDLCPU ? hipCpuDeviceId : to.device_id;
  if (hipMemPrefetchAsync(data, bytes, device, stream_of(stream)) != hipSuccess) (void)hipGetLastError();
  return BNB_OK;
}

// Addresses that HIP has never heard of are an error in some of its versions and ordinary memory in others.
Memory kind_of(const void *data, int *device) {
  hipPointerAttribute_t attributes{};
  if (hipPointerGetAttributes(&attributes, data) != hipSuccess) {
    (void)hipGetLastError();
    return Memory::kHost;
  }
  *device = attributes.device;
  if (attributes.isManaged) return Memory::kManaged;
#if HIP_VERSION_MAJOR >= 6
  if (attributes.type == hipMemoryTypeManaged) return Memory::kManaged;
  return attributes.type == hipMemoryTypeDevice ? Memory::kDevice : Memory::kHost;
#else
  return attributes.memoryType == hipMemoryTypeDevice ? Memory::kDevice : Memory::kHost;
#endif
}

}  // namespace bnb::gpu

namespace bnb::hip {

// Page-locked memory is the GPU's as well as the host's.
static bool owns(DLDeviceType type) { return type == kDLROCM || type == kDLROCMHost; }

extern const Backend kBackend;
constexpr Backend kBackend = gpu::backend("hip", owns);

}  // namespace bnb::hip
