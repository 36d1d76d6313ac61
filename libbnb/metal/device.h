// SPDX-License-Identifier: MIT
// All that this backend asks of Metal. objc_device.mm answers with Apple's framework, tests/metal/device.cc with kernels on the host.
// Everything above this header is the same for both. Nothing here throws; what fails returns a status whose text is stored.
#ifndef BNB_METAL_DEVICE_H_
#define BNB_METAL_DEVICE_H_

#include "core/backend.h"

namespace bnb::metal {

constexpr int kSimdWidth = 32;        // lanes of a simdgroup; devices with another number are not counted
constexpr size_t kMaxInline = 4096;   // bytes that set_bytes() takes
constexpr int kMaxBuffers = 31;       // indices of buffers

// What kernels are chosen by.
struct Traits {
  int language;            // the newest of Metal's language that the system compiles: 240 for 2.4, 310 for 3.1 (bfloat), ...
  int family;              // of Apple's GPUs: 7 for M1, 8 for M2, 9 for M3, ...
  bool unified;            // host and GPU share the memory
  int groups;              // threadgroups that fill it when each goes on to the next piece of work
  int max_threads;         // of a threadgroup, at least 512
  size_t max_threadgroup;  // bytes of threadgroup memory
};

int32_t device_count();
const Traits &traits_of(int32_t device);

// MTLBuffer. A Buffer is what DLTensor.data holds: one that is owned has to be released.
enum class Storage { kShared, kPrivate };
bnb_status new_buffer(int32_t device, size_t bytes, Storage storage, void **buffer);
bnb_status wrap_host_memory(int32_t device, void *pages, size_t bytes, void **buffer);  // whole pages that outlive the buffer
void release_buffer(void *buffer);
bnb_status buffer_bytes(int32_t device, void *buffer, uint64_t *bytes);  // fails for "a buffer of another device"
void *host_address(void *buffer);                                        // NULL for private ones
size_t page_bytes();

// MTLLibrary and MTLComputePipelineState. They live as long as the process.
struct Source {
  const char *name, *text;
};
bnb_status new_library(int32_t device, const Source &source, void **library);
bnb_status new_pipeline(int32_t device, void *library, const char *function, void **pipeline);

// MTLCommandBuffer on the queue that `stream` is (NULL: the device's own), with one encoder. Work is done in the order of these calls, and
// after what was committed to the same queue before. Destroying it without commit() drops the work.
class CommandBuffer {
 public:
  CommandBuffer(int32_t device, void *stream);
  ~CommandBuffer();
  CommandBuffer(const CommandBuffer &) = delete;
  CommandBuffer &operator=(const CommandBuffer &) = delete;
  bnb_status status() const { return status_; }  // a launch that cannot be shows here, too

  void set_pipeline(void *pipeline);
  void set_bytes(const void *bytes, size_t size, int index);
  void set_buffer(void *buffer, uint64_t offset, int index);
  void set_threadgroup_memory(size_t bytes, int index);
  void dispatch(uint32_t groups, int threads);  // of one dimension

  void commit();
  bnb_status wait();  // until it is done; what went wrong in it, or in work before it that nobody waited for

 private:
  void *state_ = nullptr;
  bnb_status status_ = BNB_OK;
};

}  // namespace bnb::metal

#endif  // BNB_METAL_DEVICE_H_
