// SPDX-License-Identifier: MIT
// The emulated device as a backend: it calls itself "cuda" with warps of 32 lanes and "hip" with waves of 64, so that whoever looks
// at names and device types sees what real ones show.
#include "gpu/backend.h"
#include "simt/grid.h"
#include "simt/runtime.h"

namespace bnb::gpu {

Device describe_device(int) {
  constexpr int kMultiprocessors = 4;  // few, so that blocks come to their second unit of work
  return {kMultiprocessors, BNB_SIMT_ARCH, simt::kWave, int(simt::kMaxShared)};
}

bnb_status prefetch(const void *, size_t, DLDevice, void *) { return BNB_OK; }

Memory kind_of(const void *data, int *) {
  const simt::Memory memory = simt::kind_of(data);
  return memory == simt::Memory::kDevice ? Memory::kDevice : memory == simt::Memory::kManaged ? Memory::kManaged : Memory::kHost;
}

}  // namespace bnb::gpu

namespace bnb::BNB_SIMT_NAME {
namespace {

constexpr DLDeviceType kType = simt::kWave == 32 ? kDLCUDA : kDLROCM;
bool owns(DLDeviceType type) { return type == kType; }

}  // namespace

extern const Backend kBackend;
constexpr Backend kBackend = gpu::backend(simt::kWave == 32 ? "cuda" : "hip", owns);

}  // namespace bnb::BNB_SIMT_NAME
