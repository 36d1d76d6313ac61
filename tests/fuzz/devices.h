// SPDX-License-Identifier: MIT
// The devices of the library, and images of host memory on them.
#ifndef TESTS_FUZZ_DEVICES_H_
#define TESTS_FUZZ_DEVICES_H_

#include <bnb/bnb.h>

#include <vector>

#include "conformance/memory.h"

namespace fuzz {

constexpr DLDevice kCpu{kDLCPU, 0};
inline bool is_cpu(DLDevice device) { return device.device_type == kDLCPU; }

const std::vector<DLDevice> &devices();  // the CPU first

// Whether a call may find a device of this type and number.
bool may_be_there(DLDevice device);

// Memory of a device that has the content of pages on the host before a call, and gives it back after.
class Image {
 public:
  Image(DLDevice device, conformance::Pages pages, bool managed = false);
  Image(Image &&other) noexcept : device_(other.device_), pages_(other.pages_), data_(other.data_) { other.data_ = nullptr; }
  ~Image();
  Image(const Image &) = delete;
  Image &operator=(const Image &) = delete;
  void *data() const { return data_; }
  bool upload() const;
  bool download() const;

 private:
  DLDevice device_;
  conformance::Pages pages_;
  void *data_ = nullptr;
};

}  // namespace fuzz

#endif  // TESTS_FUZZ_DEVICES_H_
