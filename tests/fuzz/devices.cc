// SPDX-License-Identifier: MIT
// The functions of fuzz/devices.h.
#include "devices.h"

#include <string_view>

namespace fuzz {

const std::vector<DLDevice> &devices() {
  static const std::vector<DLDevice> list = [] {
    std::vector<DLDevice> found{kCpu};
    for (int32_t i = 1; const char *name = bnb_backend_name(i); ++i) {
      const std::string_view backend = name;
      const DLDeviceType type = backend == "cuda" ? kDLCUDA : backend == "hip" ? kDLROCM : kDLMetal;
      for (int32_t id = 0; id < bnb_device_count(name); ++id) found.push_back({type, id});
    }
    return found;
  }();
  return list;
}

bool may_be_there(DLDevice device) {
  const auto family = [](DLDeviceType type) {
    return type == kDLCUDAHost || type == kDLCUDAManaged ? kDLCUDA : type == kDLROCMHost ? kDLROCM : type;
  };
  for (const DLDevice &one : devices()) {
    if (one.device_type == family(device.device_type) && one.device_id == device.device_id) return true;
  }
  return false;
}

Image::Image(DLDevice device, conformance::Pages pages, bool managed) : device_(device), pages_(pages) {
  (managed ? bnb_allocate_managed : bnb_allocate)(device, size_t(pages.size), &data_);
}
Image::~Image() { bnb_free(device_, data_); }

bool Image::upload() const {
  return bnb_copy(device_, data_, kCpu, pages_.begin, size_t(pages_.size), nullptr) == BNB_OK;
}
bool Image::download() const {
  return bnb_copy(kCpu, pages_.begin, device_, data_, size_t(pages_.size), nullptr) == BNB_OK;
}

}  // namespace fuzz
