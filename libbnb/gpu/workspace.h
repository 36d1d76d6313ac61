// SPDX-License-Identifier: MIT
// Memory of the device during an operation.
#ifndef BNB_GPU_WORKSPACE_H_
#define BNB_GPU_WORKSPACE_H_

#include "core/backend.h"

namespace bnb::gpu {

// Memory of the device for the duration of an operation, taken from and given back to the stream's pool in the order of its
// work: nothing waits, and a graph can capture it. Or from what the calling thread gave (core/workspace.h); in a query it is nowhere.
class Workspace {
 public:
  Workspace(const Queue &queue, size_t bytes);
  ~Workspace();
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;
  bnb_status status() const { return status_; }
  void *data() const { return data_; }

 private:
  Queue queue_;
  size_t bytes_;
  void *data_ = nullptr;
  bnb_status status_;
};

// Whether the operation is only asked for its workspace: it launches nothing then.
bool only_asked();

// data[0 .. bytes) = value; to[0 .. bytes) = from[0 .. bytes) within the device. In the order of the stream.
bnb_status set_bytes(const Queue &queue, void *data, uint8_t value, size_t bytes);
bnb_status copy_bytes(const Queue &queue, void *to, const void *from, size_t bytes);

}  // namespace bnb::gpu

#endif  // BNB_GPU_WORKSPACE_H_
