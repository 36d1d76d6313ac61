// SPDX-License-Identifier: MIT
// Memory services of a GPU backend: allocation, copies, managed memory, and workspaces in the order of a stream.
#include "gpu/memory.h"

#include "core/workspace.h"
#include "gpu/sdk.h"
#include "gpu/workspace.h"

namespace bnb::gpu {
namespace {

// A call of the SDK on a device, as a status.
template <typename Call>
bnb_status on(DLDevice device, const char *name, const Call &call) {
  const DeviceScope scope(device.device_id);
  return scope.status() == BNB_OK ? status_of(call(), name) : scope.status();
}

bool is_host(DLDevice device) { return device.device_type == kDLCPU; }

}  // namespace

bnb_status allocate(DLDevice device, size_t bytes, void **data) {
  void *memory = nullptr;
  const bnb_status status =
      bytes ? on(device, "bnb_allocate", [&] { return BNB_SDK(Malloc)(&memory, bytes); }) : BNB_OK;
  if (status == BNB_OK) *data = memory;
  return status;
}

bnb_status allocate_managed(DLDevice device, size_t bytes, void **data) {
  void *memory = nullptr;
  const bnb_status status = bytes ? on(device, "bnb_allocate_managed",
                                       [&] { return BNB_SDK(MallocManaged)(&memory, bytes, BNB_SDK(MemAttachGlobal)); })
                                  : BNB_OK;
  if (status == BNB_OK) *data = memory;
  return status;
}

bnb_status release(DLDevice device, void *data) {
  return data ? on(device, "bnb_free", [&] { return BNB_SDK(Free)(data); }) : BNB_OK;
}

// The SDK finds out from addresses which side is where. A copy from or to pageable host memory is done on return as the SDK has
// it only sometimes; bnb.h promises it always.
bnb_status copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream) {
  if (bytes == 0) return BNB_OK;
  const DLDevice device = is_host(to) ? from : to;
  return on(device, "bnb_copy", [&] {
    const SdkError error =
        BNB_SDK(MemcpyAsync)(destination, source, bytes, BNB_SDK(MemcpyDefault), stream_of(stream));
    if (error != BNB_SDK(Success) || !(is_host(to) || is_host(from))) return error;
    return BNB_SDK(StreamSynchronize)(stream_of(stream));
  });
}

bnb_status synchronize(DLDevice device, void *stream) {
  return on(device, "bnb_synchronize", [&] { return BNB_SDK(StreamSynchronize)(stream_of(stream)); });
}

Memory home_of(const void *data, DLDevice *device) {
  *device = {kDeviceType, 0};
  int id = 0;
  const Memory memory = data ? kind_of(data, &id) : Memory::kHost;
  if (memory == Memory::kHost && BNB_SDK(GetDevice)(&id) != BNB_SDK(Success)) {
    (void)BNB_SDK(GetLastError)();
    id = 0;
  }
  device->device_id = id;
  return memory;
}

bnb_status borrow(Queue queue, size_t bytes, void **data) {
  *data = nullptr;
  if (bytes == 0) return BNB_OK;
  size_t most = 0;
  if (workspace::concerned() && (workspace::querying() || workspace::given(queue.device.device_id, &most))) {
    *data = workspace::take(queue.device.device_id, bytes);
    return *data ? BNB_OK : fail(BNB_ERROR_OUT_OF_MEMORY, "%zu bytes do not fit into the workspace of %zu bytes", bytes, most);
  }
  return on(queue.device, "workspace", [&] { return BNB_SDK(MallocAsync)(data, bytes, stream_of(queue.stream)); });
}

void give_back(Queue queue, void *data, size_t bytes) {
  if (!data) return;
  size_t most = 0;
  if (workspace::concerned() && (workspace::querying() || workspace::given(queue.device.device_id, &most))) {
    return workspace::put_back(bytes);
  }
  const DeviceScope scope(queue.device.device_id);
  if (BNB_SDK(FreeAsync)(data, stream_of(queue.stream)) != BNB_SDK(Success)) (void)BNB_SDK(GetLastError)();
}

Workspace::Workspace(const Queue &queue, size_t bytes) : queue_(queue), bytes_(bytes), status_(borrow(queue, bytes, &data_)) {}
Workspace::~Workspace() { give_back(queue_, data_, bytes_); }

bool only_asked() { return workspace::querying(); }

bnb_status set_bytes(const Queue &queue, void *data, uint8_t value, size_t bytes) {
  if (bytes == 0 || only_asked()) return BNB_OK;
  return on(queue.device, "setting memory",
            [&] { return BNB_SDK(MemsetAsync)(data, value, bytes, stream_of(queue.stream)); });
}

bnb_status copy_bytes(const Queue &queue, void *to, const void *from, size_t bytes) {
  if (bytes == 0 || only_asked()) return BNB_OK;
  return on(queue.device, "copying memory",
            [&] { return BNB_SDK(MemcpyAsync)(to, from, bytes, BNB_SDK(MemcpyDefault), stream_of(queue.stream)); });
}

}  // namespace bnb::gpu
