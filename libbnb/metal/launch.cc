// SPDX-License-Identifier: MIT
// Launches and workspaces: encoded on a queue, or put on the list of bnb/metal.h.
#include "metal/launch.h"

#include <cstdio>

#include "core/launches.h"
#include "core/status.h"
#include "metal/pipelines.h"

namespace bnb::metal {
namespace {

// Temporary memory of a list has no buffer yet: places in it are where no object is, as in core/workspace.cc.
constexpr uintptr_t kTemporary = uintptr_t(1) << 62;
bool is_temporary(const void *buffer) { return reinterpret_cast<uintptr_t>(buffer) >= kTemporary; }

bnb_metal_buffer listed(const Place &place) {
  if (!place.buffer) return {nullptr, 0, BNB_METAL_NOTHING};
  if (!is_temporary(place.buffer)) return {place.buffer, place.offset, BNB_METAL_TENSOR};
  return {nullptr, reinterpret_cast<uintptr_t>(place.buffer) - kTemporary + place.offset, BNB_METAL_TEMPORARY};
}

// Everything but the pipeline.
void set_and_dispatch(CommandBuffer &commands, const bnb_metal_launch &launch, void *temporary) {
  static constexpr uint64_t kNothing[2] = {};
  commands.set_bytes(launch.bytes, launch.byte_count, 0);
  for (int i = 0; i < launch.buffer_count; ++i) {
    const bnb_metal_buffer &buffer = launch.buffers[i];
    if (buffer.place == BNB_METAL_NOTHING) {
      commands.set_bytes(kNothing, sizeof kNothing, i + 1);
    } else {
      commands.set_buffer(buffer.place == BNB_METAL_TENSOR ? buffer.buffer : temporary, buffer.offset, i + 1);
    }
  }
  commands.dispatch(launch.groups, int(launch.threads));
}

// That what a kernel is given begins in a buffer of the device; how far it reaches was checked when the list was made.
bnb_status check_buffers(DLDevice device, const bnb_metal_launch &launch, void *temporary) {
  for (int i = 0; i < launch.buffer_count; ++i) {
    const bnb_metal_buffer &buffer = launch.buffers[i];
    if (buffer.place == BNB_METAL_NOTHING) continue;
    void *handle = buffer.place == BNB_METAL_TENSOR ? buffer.buffer : temporary;
    if (!handle) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: temporary is NULL");
    uint64_t bytes = 0;
    if (buffer_bytes(device.device_id, handle, &bytes) != BNB_OK) {
      return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: a buffer of another device");
    }
    if (buffer.offset >= bytes) return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_metal_play: a tensor begins beyond its buffer");
  }
  return BNB_OK;
}

}  // namespace

Workspace::Workspace(const Queue &queue, size_t bytes) {
  if (bytes == 0) return;
  if (launches::records(queue.stream)) {
    uint64_t offset = 0;
    if (!launches::reserve(bytes, &offset)) status_ = fail(BNB_ERROR_OUT_OF_MEMORY, "a workspace of %zu bytes", bytes);
    buffer_ = reinterpret_cast<void *>(kTemporary + uintptr_t(offset));
  } else {
    status_ = new_buffer(queue.device.device_id, bytes, Storage::kPrivate, &buffer_);
    owned_ = status_ == BNB_OK;
  }
}

Workspace::~Workspace() {
  if (owned_) release_buffer(buffer_);
}

Commands::Commands(const Queue &queue) : queue_(queue) {
  if (launches::records(queue.stream)) {
    listed_before_ = launches::begin();
  } else {
    status_ = buffer_.emplace(queue.device.device_id, queue.stream).status();
  }
}

Commands::~Commands() {
  if (!buffer_ && !committed_) launches::cut(listed_before_);
}

void Commands::launch(const Kernel &kernel, const Grid &grid, const void *args, size_t bytes, const Place *places, int count) {
  if (status_ != BNB_OK || grid.groups == 0) return;
  if (grid.groups > INT64_C(0xFFFFFFFF)) {
    status_ = fail(BNB_ERROR_UNSUPPORTED, "%s: more threadgroups than 32 bits can count", kernel.name);
    return;
  }
  const char *dtype = kernel.dtype == DType::kF32    ? "_f32"
                      : kernel.dtype == DType::kF16  ? "_f16"
                      : kernel.dtype == DType::kBF16 ? "_bf16"
                                                     : "";
  char function[kFunctionName];
  std::snprintf(function, sizeof function, "%s%s%s%s", kernel.name, kernel.suffix ? "_" : "", kernel.suffix ? kernel.suffix : "", dtype);
  bnb_metal_buffer buffers[kMaxBuffers];
  for (int i = 0; i < count; ++i) buffers[i] = listed(places[i]);
  status_ = encode(kernel, {nullptr, function, uint32_t(grid.groups), uint32_t(grid.threads), args, bytes, buffers, count});
}

bnb_status Commands::encode(const Kernel &kernel, const bnb_metal_launch &launch) {
  if (!buffer_) {
    const Source *source = find_source(kernel.file);
    if (!source) return BNB_ERROR_INTERNAL;
    bnb_metal_launch with_source = launch;
    with_source.source = source->text;
    return launches::add(with_source);
  }
  void *pipeline = nullptr;
  const bnb_status status = find_pipeline(queue_.device.device_id, kernel.file, launch.function, &pipeline);
  if (status != BNB_OK) return status;
  buffer_->set_pipeline(pipeline);
  set_and_dispatch(*buffer_, launch, nullptr);
  return BNB_OK;
}

bnb_status Commands::commit() {
  if (buffer_ && status_ == BNB_OK) status_ = buffer_->status();
  if (buffer_ && status_ == BNB_OK) buffer_->commit();
  committed_ = status_ == BNB_OK;
  return status_;
}

bnb_status play(DLDevice device, const bnb_metal_launch *list, int64_t count, void *temporary, void *stream) {
  CommandBuffer commands(device.device_id, stream);
  for (int64_t i = 0; i < count && commands.status() == BNB_OK; ++i) {
    const bnb_metal_launch &launch = list[i];
    bnb_status status = check_buffers(device, launch, temporary);
    if (status != BNB_OK) return status;
    const Source *source = find_source_of_text(launch.source);
    if (!source) return BNB_ERROR_INVALID_ARGUMENT;
    void *pipeline = nullptr;
    status = find_pipeline(device.device_id, source->name, launch.function, &pipeline);
    if (status != BNB_OK) return status;
    commands.set_pipeline(pipeline);
    set_and_dispatch(commands, launch, temporary);
  }
  if (commands.status() == BNB_OK) commands.commit();
  return commands.status();
}

}  // namespace bnb::metal
