// SPDX-License-Identifier: MIT
// Launches and workspaces.
#include "metal/launch.h"

#include <cstdio>

#include "core/status.h"
#include "metal/pipelines.h"

namespace bnb::metal {

Workspace::Workspace(const Queue &queue, size_t bytes) {
  if (bytes) status_ = new_buffer(queue.device.device_id, bytes, Storage::kPrivate, &buffer_);
}

Workspace::~Workspace() {
  if (buffer_) release_buffer(buffer_);
}

Commands::Commands(const Queue &queue) : queue_(queue), buffer_(queue.device.device_id, queue.stream), status_(buffer_.status()) {}

bool Commands::begin(const Kernel &kernel, const Grid &grid) {
  if (grid.groups > INT64_C(0xFFFFFFFF)) {
    status_ = fail(BNB_ERROR_UNSUPPORTED, "%s: more threadgroups than 32 bits can count", kernel.name);
    return false;
  }
  const char *dtype = kernel.dtype == DType::kF32    ? "_f32"
                      : kernel.dtype == DType::kF16  ? "_f16"
                      : kernel.dtype == DType::kBF16 ? "_bf16"
                                                     : "";
  char function[kFunctionName];
  std::snprintf(function, sizeof function, "%s%s%s%s", kernel.name, kernel.suffix ? "_" : "", kernel.suffix ? kernel.suffix : "", dtype);
  void *pipeline = nullptr;
  status_ = find_pipeline(queue_.device.device_id, kernel.file, function, &pipeline);
  if (status_ != BNB_OK) return false;
  buffer_.set_pipeline(pipeline);
  if (grid.threadgroup_bytes) buffer_.set_threadgroup_memory((grid.threadgroup_bytes + 15) / 16 * 16, 0);
  return true;
}

void Commands::set(int index, const Place &place) {
  static constexpr uint64_t kNothing[2] = {};
  if (place.buffer) {
    buffer_.set_buffer(place.buffer, place.offset, index);
  } else {
    buffer_.set_bytes(kNothing, sizeof kNothing, index);
  }
}

bnb_status Commands::commit() {
  if (status_ == BNB_OK) status_ = buffer_.status();
  if (status_ == BNB_OK) buffer_.commit();
  return status_;
}

}  // namespace bnb::metal
