// SPDX-License-Identifier: MIT
// A backend: a name, the devices it answers for, its table of operations and its memory services.
#ifndef BNB_CORE_BACKEND_H_
#define BNB_CORE_BACKEND_H_

#include <bnb/metal.h>

#include "core/handles.h"
#include "core/ops.h"
#include "core/optimizer.h"
#include "core/tool_ops.h"

namespace bnb {

// Where an operation runs: the device of its tensors and the caller's stream.
struct Queue {
  DLDevice device;
  void *stream;
  const Handles *handles = nullptr;  // the buffers behind the pointers of the arguments, on backends whose buffers are handles
};

// Whose memory an address is: a device's, one's that the host sees, too, or anything else.
enum class Memory { kHost, kDevice, kManaged };

struct Backend {
  const char *name;
  bool (*owns)(DLDeviceType type);
  int32_t (*device_count)();

  // A NULL slot is BNB_ERROR_UNSUPPORTED, with a message.
#define BNB_OP(op, Args) bnb_status (*op)(const Args &, Queue);
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP

  bnb_status (*allocate)(DLDevice, size_t bytes, void **data);
  bnb_status (*allocate_managed)(DLDevice, size_t bytes, void **data);
  bnb_status (*release)(DLDevice, void *data);
  bnb_status (*copy)(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream);
  bnb_status (*synchronize)(DLDevice, void *stream);
  bnb_status (*prefetch)(const void *data, size_t bytes, DLDevice to, void *stream);

  // NULL where DLTensor.data is an address. Where it is a handle: how many bytes that buffer has, or what it is that it must not be.
  bnb_status (*buffer_bytes)(DLDevice, void *handle, uint64_t *bytes) = nullptr;

  // NULL where addresses do not tell. Else whose memory an address is, and on which device; of host memory, the device that the
  // calling thread uses.
  Memory (*home_of)(const void *data, DLDevice *device) = nullptr;

  // Memory for the length of an operation, in the order of the stream, given back in the reverse order (core/workspace.h). NULL: the
  // C library's will do.
  bnb_status (*borrow)(Queue, size_t bytes, void **data) = nullptr;
  void (*give_back)(Queue, void *data, size_t bytes) = nullptr;

  // bnb_metal_play(), on Metal alone.
  bnb_status (*play)(DLDevice, const bnb_metal_launch *list, int64_t count, void *temporary, void *stream) = nullptr;

  // Where DLTensor.data is a handle it may also be an address that allocate_managed gave, or one behind it: the buffer that this is,
  // and which byte of it. False for anything else.
  bool (*buffer_at)(const void *address, void **handle, uint64_t *offset) = nullptr;
};

// The i-th backend of this library in the order of libbnb/meson.build, NULL past the last; and the one for a device.
const Backend *backend_at(int32_t index);
const Backend *backend_for(DLDeviceType type);

}  // namespace bnb

#endif  // BNB_CORE_BACKEND_H_
