// SPDX-License-Identifier: MIT
// The calls of the host into CUDA and HIP, which differ in their first letters alone. tests/simt has them, too.
#ifndef BNB_GPU_SDK_H_
#define BNB_GPU_SDK_H_

#include "core/status.h"

#if defined(BNB_GPU_CUDA)
#include <cuda_runtime.h>
#define BNB_SDK(name) cuda##name
#elif defined(BNB_GPU_HIP)
#include <hip/hip_runtime.h>
#define BNB_SDK(name) hip##name
#else
#include <simt/runtime.h>
#define BNB_SDK(name) simt##name
#endif

namespace bnb::gpu {

#if defined(BNB_GPU_CUDA)
constexpr DLDeviceType kDeviceType = kDLCUDA;
#elif defined(BNB_GPU_HIP)
constexpr DLDeviceType kDeviceType = kDLROCM;
#else
constexpr DLDeviceType kDeviceType = BNB_SIMT_WAVE == 32 ? kDLCUDA : kDLROCM;
#endif

using Stream = BNB_SDK(Stream_t);
using SdkError = BNB_SDK(Error_t);

inline Stream stream_of(void *stream) { return static_cast<Stream>(stream); }

// BNB_OK, or the status that stands for an SDK's error, with its own words: "cudaMalloc: out of memory (2)".
bnb_status status_of(SdkError error, const char *call);

// Makes a device the calling thread's for as long as it lives.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope &) = delete;
  DeviceScope &operator=(const DeviceScope &) = delete;
  bnb_status status() const { return status_; }

 private:
  int before_ = -1;  // -1: it was this one
  bnb_status status_;
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_SDK_H_
