// SPDX-License-Identifier: MIT
// Metal for the tests: two devices that run kernels on the host. Device 0 is like a new GPU of Apple's, with the memory of the host, and
// takes subnormal numbers for zero; device 1 has the oldest language that is supported, memory of its own, and keeps them.
//
// What is committed runs when somebody waits for it, and not before: forgotten waits show.
#include "metal/device.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "metal/flushing.h"
#include "metal/kernels.h"
#include "metal/sources.h"
#include "simt/grid.h"
#include "simt/runtime.h"

namespace bnb::metal {
namespace {

// Few groups, so that each comes to its second piece of work.
constexpr Traits kTraits[] = {{310, 9, true, 2, 1024, 32 << 10}, {240, 7, false, 3, 512, 32 << 10}};
constexpr int kDevices = 2;

constexpr uint64_t kMagic = 0x3B1DDEC0DEu;

struct Buffer {
  uint64_t magic = kMagic;
  int32_t device = 0;
  int references = 1;
  char *memory = nullptr;
  size_t bytes = 0;
  Storage storage = Storage::kShared;
  char *wrapped = nullptr;  // memory of the host, of which `memory` is a copy while kernels run: they are watched in memory of the device
};

std::recursive_mutex &lock() {
  static auto *const mutex = new std::recursive_mutex;
  return *mutex;
}
using Guard = std::lock_guard<std::recursive_mutex>;

void release(Buffer *buffer) {
  const Guard guard(lock());
  if (--buffer->references) return;
  simtFree(buffer->memory);
  buffer->magic = 0;
  delete buffer;
}

struct Pipeline {
  metal_host::Body body;
};

// A launch that waits.
struct Work {
  metal_host::Body body = nullptr;
  std::vector<char> bytes[kMaxBuffers];
  Buffer *buffers[kMaxBuffers] = {};
  uint64_t offsets[kMaxBuffers] = {};
  size_t threadgroup_bytes = 0;
  uint32_t groups = 0;
  int threads = 0;
};

struct State {
  int32_t device;
  void *stream;
  Work next;
  std::vector<Work> work;
  bool committed = false;
};

std::deque<Work> &pending(int32_t device) {
  static auto *const queues = new std::deque<Work>[kDevices];
  return queues[device];
}

void retain(Work *work) {
  for (Buffer *buffer : work->buffers) {
    if (buffer) ++buffer->references;
  }
}
void drop(Work *work) {
  for (Buffer *buffer : work->buffers) {
    if (buffer) release(buffer);
  }
}

// "" or what went wrong.
const char *launch(const Work &work, int32_t device) {
  // Structs of arguments lie on this thread's stack, where tests/simt expects arguments.
  alignas(16) char arguments[2 * kMaxInline];
  size_t used = 0;
  metal_host::Bindings bindings{};
  for (int i = 0; i < kMaxBuffers; ++i) {
    if (work.buffers[i]) {
      bindings.buffers[i] = work.buffers[i]->memory + work.offsets[i];
    } else if (!work.bytes[i].empty()) {
      if (used + work.bytes[i].size() > sizeof arguments) return "more inline bytes than the tests have room for";
      std::memcpy(arguments + used, work.bytes[i].data(), work.bytes[i].size());
      bindings.buffers[i] = arguments + used;
      used += (work.bytes[i].size() + 15) / 16 * 16;
    }
  }
  metal_host::bindings = &bindings;
  const simt::DeviceMemoryOpen open;
  for (const Buffer *buffer : work.buffers) {
    if (buffer && buffer->wrapped) std::memcpy(buffer->memory, buffer->wrapped, buffer->bytes);
  }
  const char *problem;
  {
    const metal_host::Flushing flushing(device == 0);
    problem = simt::run({int64_t(work.groups), work.threads, work.threadgroup_bytes}, [&] { work.body(); });
  }
  for (const Buffer *buffer : work.buffers) {
    if (!buffer || !buffer->wrapped || std::memcmp(buffer->wrapped, buffer->memory, buffer->bytes) == 0) continue;  // it may be read-only
    std::memcpy(buffer->wrapped, buffer->memory, buffer->bytes);
  }
  return problem;
}

bnb_status run_pending(int32_t device) {
  const Guard guard(lock());
  std::deque<Work> &queue = pending(device);
  bnb_status status = BNB_OK;
  while (!queue.empty()) {
    Work work = std::move(queue.front());
    queue.pop_front();
    const char *problem = status == BNB_OK ? launch(work, device) : "";
    if (*problem) status = fail(BNB_ERROR_DEVICE, "%s", problem);
    drop(&work);
  }
  return status;
}

}  // namespace

int32_t device_count() { return kDevices; }
const Traits &traits_of(int32_t device) { return kTraits[device]; }
size_t page_bytes() { return size_t(sysconf(_SC_PAGESIZE)); }

bnb_status new_buffer(int32_t device, size_t bytes, Storage storage, void **buffer) {
  void *memory = nullptr;
  const simtError_t error =
      storage == Storage::kShared ? simtMallocManaged(&memory, bytes, simtMemAttachGlobal) : simtMalloc(&memory, bytes);
  if (error != simtSuccess) return fail(BNB_ERROR_OUT_OF_MEMORY, "no buffer of %zu bytes", bytes);
  auto *made = new Buffer;
  made->device = device;
  made->memory = static_cast<char *>(memory);
  made->bytes = bytes;
  made->storage = storage;
  *buffer = made;
  return BNB_OK;
}

bnb_status wrap_host_memory(int32_t device, void *pages, size_t bytes, void **buffer) {
  if (reinterpret_cast<uintptr_t>(pages) % page_bytes() || bytes % page_bytes()) {
    return fail(BNB_ERROR_DEVICE, "newBufferWithBytesNoCopy: not whole pages");
  }
  const bnb_status status = new_buffer(device, bytes, Storage::kShared, buffer);
  if (status == BNB_OK) static_cast<Buffer *>(*buffer)->wrapped = static_cast<char *>(pages);
  return status;
}

void release_buffer(void *buffer) { release(static_cast<Buffer *>(buffer)); }

bnb_status buffer_bytes(int32_t device, void *buffer, uint64_t *bytes) {
  const auto *known = static_cast<const Buffer *>(buffer);
  if (known->magic != kMagic) return fail(BNB_ERROR_INVALID_ARGUMENT, "no MTLBuffer");
  if (known->device != device) return fail(BNB_ERROR_INVALID_ARGUMENT, "a buffer of another device");
  *bytes = known->bytes;
  return BNB_OK;
}

void *host_address(void *buffer) {
  const auto *known = static_cast<const Buffer *>(buffer);
  return known->wrapped ? known->wrapped : known->storage == Storage::kShared ? known->memory : nullptr;
}

bnb_status new_library(int32_t, const Source &source, void **library) {
  if (!std::strstr(source.text, "kernel")) return fail(BNB_ERROR_INTERNAL, "%s.metal has no kernels", source.name);
  *library = const_cast<Source *>(&source);
  return BNB_OK;
}

bnb_status new_pipeline(int32_t device, void *library, const char *function, void **pipeline) {
  const auto &source = *static_cast<const Source *>(library);
  const metal_host::Body body = metal_host::find_kernel(source.name, function, traits_of(device).language);
  if (!body) return fail(BNB_ERROR_INTERNAL, "%s.metal has no kernel %s", source.name, function);
  *pipeline = new Pipeline{body};
  return BNB_OK;
}

CommandBuffer::CommandBuffer(int32_t device, void *stream) {
  if (stream) {
    status_ = fail(BNB_ERROR_INVALID_ARGUMENT, "the device of the tests has no queue but its own");
    return;
  }
  state_ = new State{device, stream, {}, {}};
}

CommandBuffer::~CommandBuffer() {
  auto *state = static_cast<State *>(state_);
  if (!state) return;
  const Guard guard(lock());
  for (Work &work : state->work) drop(&work);
  delete state;
}

void CommandBuffer::set_pipeline(void *pipeline) {
  auto &next = static_cast<State *>(state_)->next;
  next = Work{};  // stricter than Metal: every launch sets all that it needs
  next.body = static_cast<Pipeline *>(pipeline)->body;
}
void CommandBuffer::set_bytes(const void *bytes, size_t size, int index) {
  const auto *first = static_cast<const char *>(bytes);
  static_cast<State *>(state_)->next.bytes[index].assign(first, first + size);
}
void CommandBuffer::set_buffer(void *buffer, uint64_t offset, int index) {
  auto &next = static_cast<State *>(state_)->next;
  next.buffers[index] = static_cast<Buffer *>(buffer);
  next.offsets[index] = offset;
}
void CommandBuffer::set_threadgroup_memory(size_t bytes, int) {
  static_cast<State *>(state_)->next.threadgroup_bytes = bytes;
}
void CommandBuffer::dispatch(uint32_t groups, int threads) {
  auto &state = *static_cast<State *>(state_);
  state.next.groups = groups;
  state.next.threads = threads;
  const Guard guard(lock());
  retain(&state.next);
  state.work.push_back(state.next);
}

void CommandBuffer::commit() {
  auto &state = *static_cast<State *>(state_);
  const Guard guard(lock());
  for (Work &work : state.work) pending(state.device).push_back(std::move(work));
  state.work.clear();
  state.committed = true;
}

bnb_status CommandBuffer::wait() { return run_pending(static_cast<State *>(state_)->device); }

}  // namespace bnb::metal
