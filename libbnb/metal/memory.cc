// SPDX-License-Identifier: MIT
// Allocation and copies. Copies begin at the first byte of a buffer, since bnb_copy() has no offset for handles, or anywhere in managed
// memory.
#include "metal/memory.h"

#include <cstring>

#include "core/status.h"
#include "metal/device.h"
#include "metal/kernels/args.h"
#include "metal/managed.h"
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

// Where a side of a copy begins: at the first byte of a buffer, or anywhere in managed memory.
struct Side {
  void *buffer;
  uint64_t offset = 0;
  explicit Side(void *data) : buffer(data) { buffer_at(data, &buffer, &offset); }
  char *address() const {
    void *first = host_address(buffer);
    return first ? static_cast<char *>(first) + offset : nullptr;
  }
};

bnb_status check_length(DLDevice device, const Side &side, size_t bytes) {
  uint64_t most = 0;
  const bnb_status status = buffer_bytes(device.device_id, side.buffer, &most);
  if (status != BNB_OK) return status;
  if (bytes <= most - side.offset) return BNB_OK;
  return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_copy: %zu bytes, but the buffer has %llu", bytes, (unsigned long long)(most - side.offset));
}

// A copy on the device. Metal's own copies only whole words.
bnb_status add_copy(CommandBuffer &commands, int32_t device, const Side &from, const Side &to, size_t bytes) {
  constexpr int64_t kThreads = 256, kVector = 16;  // as in the kernel
  void *pipeline = nullptr;
  if (commands.status() != BNB_OK) return commands.status();
  const bnb_status status = find_pipeline(device, "blocks", "copy_bytes", &pipeline);
  if (status != BNB_OK) return status;
  const bool aligned = from.offset % kVector == 0 && to.offset % kVector == 0;
  const kernels::CopyArgs args{int64_t(bytes), aligned, 0};
  const int64_t units = args.bytes / (kThreads * kVector) + 1, most = traits_of(device).groups;
  commands.set_pipeline(pipeline);
  commands.set_bytes(&args, sizeof args, 0);
  commands.set_buffer(from.buffer, from.offset, 1);
  commands.set_buffer(to.buffer, to.offset, 2);
  commands.dispatch(uint32_t(units < most ? units : most), int(kThreads));
  return commands.status();
}

// The same, done on return.
bnb_status copy_now(DLDevice device, void *stream, const Side &from, const Side &to, size_t bytes) {
  CommandBuffer commands(device.device_id, stream);
  const bnb_status status = add_copy(commands, device.device_id, from, to, bytes);
  if (status != BNB_OK) return status;
  commands.commit();
  return commands.wait();
}

bnb_status copy_to_host(void *memory, DLDevice device, const Side &from, size_t bytes, void *stream) {
  if (const void *address = from.address()) {
    const bnb_status status = synchronize(device, stream);
    if (status == BNB_OK) std::memcpy(memory, address, bytes);
    return status;
  }
  const HostBuffer staging(device.device_id, memory, bytes);
  if (staging.status() != BNB_OK) return staging.status();
  const bnb_status status = copy_now(device, stream, from, Side(staging.buffer()), bytes);
  if (status == BNB_OK) staging.fetch(memory, bytes);
  return status;
}

bnb_status copy_from_host(DLDevice device, const Side &to, void *memory, size_t bytes, void *stream) {
  if (void *address = to.address()) {
    const bnb_status status = synchronize(device, stream);  // work that was queued before may still read what is there
    if (status == BNB_OK) std::memcpy(address, memory, bytes);
    return status;
  }
  const HostBuffer staging(device.device_id, memory, bytes);
  if (staging.status() != BNB_OK) return staging.status();
  staging.fill(memory, bytes);
  return copy_now(device, stream, Side(staging.buffer()), to, bytes);
}

}  // namespace

bnb_status allocate(DLDevice device, size_t bytes, void **data) {
  void *buffer = nullptr;
  const Storage storage = traits_of(device.device_id).unified ? Storage::kShared : Storage::kPrivate;
  const bnb_status status = bytes ? new_buffer(device.device_id, bytes, storage, &buffer) : BNB_OK;
  if (status == BNB_OK) *data = buffer;
  return status;
}

// What the caller gets is the address on the host's side.
bnb_status allocate_managed(DLDevice device, size_t bytes, void **data) {
  if (bytes == 0) {
    *data = nullptr;
    return BNB_OK;
  }
  void *buffer = nullptr;
  const bnb_status status = new_buffer(device.device_id, bytes, Storage::kShared, &buffer);
  if (status != BNB_OK) return status;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(host_address(buffer));
  if (!remember_managed({begin, begin + bytes, device.device_id, buffer})) {
    release_buffer(buffer);
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory to remember where managed memory is");
  }
  *data = reinterpret_cast<void *>(begin);
  return BNB_OK;
}

// Work that was committed keeps its buffers until it is done.
bnb_status release(DLDevice, void *data) {
  ManagedRange range;
  if (!data) return BNB_OK;
  if (forget_managed(data, &range)) {
    release_buffer(range.buffer);
  } else if (find_managed(data, &range)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_free: data is %llu bytes behind where its managed memory begins",
                (unsigned long long)(reinterpret_cast<uintptr_t>(data) - range.begin));
  } else {
    release_buffer(data);
  }
  return BNB_OK;
}

bool buffer_at(const void *address, void **buffer, uint64_t *offset) {
  ManagedRange range;
  if (!find_managed(address, &range)) return false;
  *buffer = range.buffer;
  *offset = reinterpret_cast<uintptr_t>(address) - range.begin;
  return true;
}

Memory home_of(const void *data, DLDevice *device) {
  ManagedRange range{};  // its device: the one that the system calls its default
  const bool managed = data && find_managed(data, &range);
  *device = {kDLMetal, range.device};
  return managed ? Memory::kManaged : Memory::kHost;
}

bnb_status copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream) {
  if (bytes == 0) return BNB_OK;
  void *origin = const_cast<void *>(source);  // a handle, or memory that is only read
  if (is_host(to)) {
    const Side side(origin);
    const bnb_status status = check_length(from, side, bytes);
    return status == BNB_OK ? copy_to_host(destination, from, side, bytes, stream) : status;
  }
  const Side target(destination);
  bnb_status status = check_length(to, target, bytes);
  if (status != BNB_OK) return status;
  if (is_host(from)) return copy_from_host(to, target, origin, bytes, stream);
  const Side side(origin);
  status = check_length(from, side, bytes);
  if (status != BNB_OK) return status;
  if (to.device_id != from.device_id) {
    return fail(BNB_ERROR_UNSUPPORTED, "bnb_copy: from one Metal device to another: copy to host memory and from there");
  }
  CommandBuffer commands(to.device_id, stream);
  status = add_copy(commands, to.device_id, side, target, bytes);
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
