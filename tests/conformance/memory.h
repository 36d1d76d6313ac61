// SPDX-License-Identifier: MIT
// Memory that notices: guard pages around host buffers, known bytes around and between everything, on every device.
#ifndef TESTS_CONFORMANCE_MEMORY_H_
#define TESTS_CONFORMANCE_MEMORY_H_

#include "call.h"

namespace conformance {

// How the buffers of a call lie and how it is run. Results must not depend on it.
struct Placement {
  const char *name;
  bool at_end;         // the last byte touches the guard page behind; otherwise the first touches the one in front
  int64_t misaligned;  // with !at_end: bytes that the data lies off the start of a page
  bool offset;         // the misalignment is in byte_offset, not in data
  bool strides;        // compact strides are spelled out
  int32_t threads;
  uint8_t filler;  // outputs, gaps and everything around hold this byte before the call
};

// Whole pages that may be touched, between two that may not.
struct Pages {
  uint8_t *begin = nullptr;
  int64_t size = 0;
};
Pages take_pages(int64_t bytes);  // at least `bytes`, at least one page; used ones are used again
void give_back_pages(Pages pages);

// On: buffers on devices whose data are handles are managed memory, which has addresses.
void use_managed_memory_for_handles(bool on);

// A tensor in memory: its descriptor, and the checks after the call.
class Buffer {
 public:
  Buffer(const Tensor &tensor, DLDevice device, const Placement &placement);
  ~Buffer();
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;

  // False if the device had no memory for it.
  bool usable() const { return usable_; }
  DLTensor *descriptor() { return &descriptor_; }

  // After the call: the content of an output goes to *content. Returns NULL, or what was written that must not be.
  const char *fetch(Bytes *content);

 private:
  void fill_image(uint8_t *image) const;
  const char *check_image(const uint8_t *image) const;

  const Tensor &tensor_;
  const DLDevice device_;
  const Placement placement_;
  Pages pages_;                  // host memory
  void *allocation_ = nullptr;   // a device's memory
  int64_t size_ = 0, lead_ = 0;  // bytes under watch, and those of them before the data
  std::vector<int64_t> shape_, strides_;
  bool usable_ = false;
  DLTensor descriptor_{};
};

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_MEMORY_H_
