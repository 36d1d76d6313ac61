// SPDX-License-Identifier: MIT
// Errors, the calling thread's device, and what a device is.
#include "gpu/sdk.h"

#include <atomic>
#include <cstdlib>

#include "gpu/device.h"

namespace bnb::gpu {

bnb_status status_of(SdkError error, const char *call) {
  if (error == BNB_SDK(Success)) return BNB_OK;
  const bnb_status status = error == BNB_SDK(ErrorMemoryAllocation) ? BNB_ERROR_OUT_OF_MEMORY : BNB_ERROR_DEVICE;
  (void)BNB_SDK(GetLastError)();  // errors that are not the context's end are forgotten: the status has told
  return fail(status, "%s: %s (%d)", call, BNB_SDK(GetErrorString)(error), int(error));
}

DeviceScope::DeviceScope(int device) : status_(BNB_OK) {
  int now = -1;
  SdkError error = BNB_SDK(GetDevice)(&now);
  if (error == BNB_SDK(Success) && now != device) {
    error = BNB_SDK(SetDevice)(device);
    if (error == BNB_SDK(Success)) before_ = now;
  }
  status_ = status_of(error, "setting the device");
}

DeviceScope::~DeviceScope() {
  if (before_ >= 0) (void)BNB_SDK(SetDevice)(before_);
}

int32_t device_count() {
  int count = 0;
  if (BNB_SDK(GetDeviceCount)(&count) == BNB_SDK(Success)) return count;
  (void)BNB_SDK(GetLastError)();  // no driver is no device
  return 0;
}

namespace {

constexpr int kMaxDevices = 64;

}  // namespace

const Device &device_of(const Queue &queue) {
  // Two threads may both ask the SDK: they get the same answer, and the second one's is dropped.
  static std::atomic<const Device *> known[kMaxDevices];
  static const Device kUnknown{1, 0, 32, 48 << 10};
  const int id = queue.device.device_id;
  if (id < 0 || id >= kMaxDevices) return kUnknown;
  const Device *device = known[id].load(std::memory_order_acquire);
  if (device) return *device;
  auto *made = static_cast<Device *>(std::malloc(sizeof(Device)));
  if (!made) return kUnknown;
  *made = describe_device(id);
  const Device *expected = nullptr;
  if (known[id].compare_exchange_strong(expected, made)) return *made;
  std::free(made);
  return *expected;
}

}  // namespace bnb::gpu
