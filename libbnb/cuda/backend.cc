// SPDX-License-Identifier: MIT
// CUDA as a backend: the table of gpu/, and what only CUDA spells its own way.
#include "gpu/backend.h"
#include "gpu/sdk.h"

namespace bnb::gpu {

namespace {

int attribute(cudaDeviceAttr name, int id) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, name, id) != cudaSuccess) (void)cudaGetLastError();
  return value;
}

}  // namespace

Device describe_device(int id) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, id), minor = attribute(cudaDevAttrComputeCapabilityMinor, id);
  return {attribute(cudaDevAttrMultiProcessorCount, id), major * 10 + minor, attribute(cudaDevAttrWarpSize, id),
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, id)};
}

// A hint: where the driver cannot, nothing is wrong.
bnb_status prefetch(const void *data, size_t bytes, DLDevice to, void *stream) {
  if (bytes == 0) return BNB_OK;
  cudaMemLocation location{};
  location.type = to.device_type == kDLCPU ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  location.id = to.device_type == kDLCPU ? 0 : to.device_id;
  if (cudaMemPrefetchAsync(data, bytes, location, 0, stream_of(stream)) != cudaSuccess) (void)cudaGetLastError();
  return BNB_OK;
}

Memory kind_of(const void *data, int *device) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    (void)cudaGetLastError();
    return Memory::kHost;
  }
  *device = attributes.device;
  return attributes.type == cudaMemoryTypeDevice    ? Memory::kDevice
         : attributes.type == cudaMemoryTypeManaged ? Memory::kManaged
                                                    : Memory::kHost;
}

}  // namespace bnb::gpu

namespace bnb::cuda {

// Page-locked and managed memory are the GPU's as well as the host's.
static bool owns(DLDeviceType type) { return type == kDLCUDA || type == kDLCUDAHost || type == kDLCUDAManaged; }

extern const Backend kBackend;
constexpr Backend kBackend = gpu::backend("cuda", owns);

}  // namespace bnb::cuda
