// SPDX-License-Identifier: MIT
// Allocation and copies. Copies begin at the first byte of a buffer: bnb_copy() has no offset for handles.
#include "metal/memory.h"

#include <cstring>

#include "core/status.h"
#include "metal/pipelines.h"

namespace bnb::metal {
namespace {

bool is_host(DLDevice device) { return device.device_type == kDLCPU; }

// A buffer over host memory for as long as the object lives: the memory itself where it is whole pages, else a copy of it.
class HostBuffer {
 public:
  HostBuffer(int32_t device, void *memory, size_t bytes) {
    const size_t page = page_bytes();
    wraps_ = reinterpret_cast<uintptr_t>(memory) % page == 0 && bytes % page == 0 &&
             wrap_host_memory(device, memory, bytes, &buffer_) == BNB_OK;  // which Metal refuses for some kinds of memory
    status_ = wraps_ ? BNB_OK : new_buffer(device, bytes, Storage::kShared, &buffer_);
  }
  ~HostBuffer() {
    if (buffer_) release_buffer(buffer_);
  }
  HostBuffer(const HostBuffer &) = delete;
  HostBuffer &operator=(const HostBuffer &) = delete;
  bnb_status status() const { return status_; }
  void *buffer() const { return buffer_; }
  void fill(const void *memory, size_t bytes) const {
    if (!wraps_) std::memcpy(host_address(buffer_), memory, bytes);
  }
  void fetch(void *memory, size_t bytes) const {
    if (!wraps_) std::memcpy(memory, host_address(buffer_), bytes);
  }

 private:
  void *buffer_ = nullptr;
  bool wraps_;
  bnb_status status_;
};

bnb_status check_length(DLDevice device, void *buffer, size_t bytes) {
  uint64_t most = 0;
  const bnb_status status = buffer_bytes(device.device_id, buffer, &most);
  if (status != BNB_OK) return status;
  if (bytes <= most) return BNB_OK;
  return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_copy: %zu bytes, but the buffer has %llu", bytes, (unsigned long long)most);
}

// A copy on the device. Metal's own copies only whole words.
bnb_status add_copy(CommandBuffer &commands, int32_t device, void *from, void *to, size_t bytes) {
  constexpr int64_t kThreads = 256, kVector = 16;  // as in the kernel
  void *pipeline = nullptr;
  if (commands.status() != BNB_OK) return commands.status();
  const bnb_status status = find_pipeline(device, "blocks", "copy_bytes", &pipeline);
  if (status != BNB_OK) return status;
  const int64_t count = int64_t(bytes), units = count / (kThreads * kVector) + 1, most = traits_of(device).groups;
  commands.set_pipeline(pipeline);
  commands.set_bytes(&count, sizeof count, 0);
  commands.set_buffer(from, 0, 1);
  commands.set_buffer(to, 0, 2);
  commands.dispatch(uint32_t(units < most ? units : most), int(kThreads));
  return commands.status();
}

// The same, done on return.
bnb_status copy_now(DLDevice device, void *stream, void *from, void *to, size_t bytes) {
  CommandBuffer commands(device.device_id, stream);
  const bnb_status status = add_copy(commands, device.device_id, from, to, bytes);
  if (status != BNB_OK) return status;
  commands.commit();
  return commands.wait();
}

bnb_status copy_to_host(void *memory, DLDevice device, void *buffer, size_t bytes, void *stream) {
  if (const void *address = host_address(buffer)) {
    const bnb_status status = synchronize(device, stream);
    if (status == BNB_OK) std::memcpy(memory, address, bytes);
    return status;
  }
  const HostBuffer staging(device.device_id, memory, bytes);
  if (staging.status() != BNB_OK) return staging.status();
  const bnb_status status = copy_now(device, stream, buffer, staging.buffer(), bytes);
  if (status == BNB_OK) staging.fetch(memory, bytes);
  return status;
}

bnb_status copy_from_host(DLDevice device, void *buffer, void *memory, size_t bytes, void *stream) {
  if (void *address = host_address(buffer)) {
    const bnb_status status = synchronize(device, stream);  // work that was queued before may still read what is there
    if (status == BNB_OK) std::memcpy(address, memory, bytes);
    return status;
  }
  const HostBuffer staging(device.device_id, memory, bytes);
  if (staging.status() != BNB_OK) return staging.status();
  staging.fill(memory, bytes);
  return copy_now(device, stream, staging.buffer(), buffer, bytes);
}

}  // namespace

bnb_status allocate(DLDevice device, size_t bytes, void **data) {
  void *buffer = nullptr;
  const Storage storage = traits_of(device.device_id).unified ? Storage::kShared : Storage::kPrivate;
  const bnb_status status = bytes ? new_buffer(device.device_id, bytes, storage, &buffer) : BNB_OK;
  if (status == BNB_OK) *data = buffer;
  return status;
}

bnb_status allocate_managed(DLDevice device, size_t bytes, void **data) {
  void *buffer = nullptr;
  const bnb_status status = bytes ? new_buffer(device.device_id, bytes, Storage::kShared, &buffer) : BNB_OK;
  if (status == BNB_OK) *data = buffer;
  return status;
}

bnb_status release(DLDevice, void *data) {
  if (data) release_buffer(data);
  return BNB_OK;
}

bnb_status copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream) {
  if (bytes == 0) return BNB_OK;
  void *origin = const_cast<void *>(source);  // a handle, or memory that is only read
  bnb_status status = is_host(to) ? BNB_OK : check_length(to, destination, bytes);
  if (status == BNB_OK && !is_host(from)) status = check_length(from, origin, bytes);
  if (status != BNB_OK) return status;
  if (is_host(to)) return copy_to_host(destination, from, origin, bytes, stream);
  if (is_host(from)) return copy_from_host(to, destination, origin, bytes, stream);
  if (to.device_id != from.device_id) {
    return fail(BNB_ERROR_UNSUPPORTED, "bnb_copy: from one Metal device to another: copy to host memory and from there");
  }
  CommandBuffer commands(to.device_id, stream);
  status = add_copy(commands, to.device_id, origin, destination, bytes);
  if (status == BNB_OK) commands.commit();
  return status;
}

// A queue does its work in order: an empty command buffer is done when all before it is.
bnb_status synchronize(DLDevice device, void *stream) {
  CommandBuffer commands(device.device_id, stream);
  if (commands.status() != BNB_OK) return commands.status();
  commands.commit();
  return commands.wait();
}

// Nothing moves: the memory is the host's as well as the GPU's.
bnb_status prefetch(const void *, size_t, DLDevice, void *) { return BNB_OK; }

}  // namespace bnb::metal
