// SPDX-License-Identifier: MIT
// What host code knows of devices.
#ifndef BNB_GPU_DEVICE_H_
#define BNB_GPU_DEVICE_H_

#include "core/backend.h"

namespace bnb::gpu {

// What kernels are chosen by. Asked of the SDK once per device.
struct Device {
  int multiprocessors;
  int arch;        // CUDA: 90 for sm_90; HIP: 0x90a for gfx90a; the emulator: what it stands for
  int warp;        // lanes
  int max_shared;  // dynamic bytes that a block may ask for
};

int32_t device_count();
const Device &device_of(const Queue &queue);

Device describe_device(int id);  // cuda/, hip/ and tests/simt each have one

}  // namespace bnb::gpu

#endif  // BNB_GPU_DEVICE_H_
