// SPDX-License-Identifier: MIT
// Guarded buffers (POSIX).
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>

namespace conformance {
namespace {

bool handles_are_managed = false;

constexpr int64_t kDeviceMargin = 256;  // bytes under watch on either side of a tensor in a device's memory

int64_t page_size() {
  static const int64_t size = sysconf(_SC_PAGESIZE);
  return size;
}

std::multimap<int64_t, uint8_t *> &idle_pages() {
  static std::multimap<int64_t, uint8_t *> pages;
  return pages;
}

bool all_are(const uint8_t *bytes, int64_t count, uint8_t value) {
  for (int64_t i = 0; i < count; ++i) {
    if (bytes[i] != value) return false;
  }
  return true;
}

}  // namespace

void use_managed_memory_for_handles(bool on) { handles_are_managed = on; }

Pages take_pages(int64_t bytes) {
  const int64_t page = page_size();
  const int64_t size = bytes < 1 ? page : ceil_div(bytes, page) * page;
  const auto idle = idle_pages().find(size);
  if (idle != idle_pages().end()) {
    const Pages pages{idle->second, size};
    idle_pages().erase(idle);
    return pages;
  }
  void *all = mmap(nullptr, size_t(size + 2 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED || mprotect(static_cast<uint8_t *>(all) + page, size_t(size), PROT_READ | PROT_WRITE) != 0) {
    std::perror("conformance: no memory for a test buffer");
    std::exit(2);
  }
  return {static_cast<uint8_t *>(all) + page, size};
}

void give_back_pages(Pages pages) {
  constexpr int64_t kWorthKeeping = 1 << 20;
  if (pages.size <= kWorthKeeping) {
    idle_pages().emplace(pages.size, pages.begin);
  } else {
    munmap(pages.begin - page_size(), size_t(pages.size + 2 * page_size()));
  }
}

Buffer::Buffer(const Tensor &tensor, DLDevice device, const Placement &placement)
    : tensor_(tensor), device_(device), placement_(placement), shape_(tensor.shape) {
  const int64_t span = tensor.span();
  const bool handles = device.device_type == kDLMetal, managed = handles && handles_are_managed;
  uint8_t *base;
  if (device.device_type == kDLCPU) {
    pages_ = take_pages(span + placement.misaligned);
    size_ = pages_.size;
    lead_ = placement.at_end ? size_ - span : placement.misaligned;
    base = pages_.begin;
    fill_image(base);
  } else {
    lead_ = kDeviceMargin + placement.misaligned;
    size_ = lead_ + span + kDeviceMargin;
    if ((managed ? bnb_allocate_managed : bnb_allocate)(device, size_t(size_), &allocation_) != BNB_OK) return;
    Bytes image(static_cast<size_t>(size_));
    fill_image(image.data());
    if (bnb_copy(device, allocation_, {kDLCPU, 0}, image.data(), image.size(), nullptr) != BNB_OK) return;
    base = static_cast<uint8_t *>(allocation_);
  }

  usable_ = true;
  int64_t compact = 1;
  strides_.resize(shape_.size());
  for (size_t i = shape_.size(); i-- > 0; compact *= shape_[i]) strides_[i] = compact;
  if (tensor.row_stride) strides_[0] = tensor.row_stride;

  // A Metal buffer is a handle: views of it are byte offsets.
  const int64_t offset = handles && !managed ? lead_ : placement.offset ? placement.misaligned : 0;
  descriptor_.data = base + (lead_ - offset);
  descriptor_.byte_offset = uint64_t(offset);
  descriptor_.device = device;
  descriptor_.ndim = int32_t(shape_.size());
  descriptor_.dtype = tensor.dtype;
  descriptor_.shape = shape_.data();
  descriptor_.strides = placement.strides || tensor.row_stride ? strides_.data() : nullptr;
}

Buffer::~Buffer() {
  if (pages_.begin) give_back_pages(pages_);
  if (allocation_) bnb_free(device_, allocation_);
}

void Buffer::fill_image(uint8_t *image) const {
  std::memset(image, placement_.filler, size_t(size_));
  if (tensor_.content.empty()) return;
  const int64_t row = tensor_.row_elements() * size_of(tensor_.dtype),
                stride = tensor_.stride() * size_of(tensor_.dtype);
  const int64_t rows = int64_t(tensor_.content.size()) / row;
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(image + lead_ + i * stride, tensor_.content.data() + i * row, size_t(row));
  }
}

const char *Buffer::check_image(const uint8_t *image) const {
  const int64_t span = tensor_.span();
  if (!all_are(image, lead_, placement_.filler)) return "bytes in front of it were written";
  if (!all_are(image + lead_ + span, size_ - lead_ - span, placement_.filler)) return "bytes behind it were written";
  if (tensor_.output) return nullptr;
  Bytes before(static_cast<size_t>(size_));
  fill_image(before.data());
  return std::memcmp(before.data(), image, before.size()) == 0 ? nullptr : "it is an input and was written";
}

const char *Buffer::fetch(Bytes *content) {
  Bytes image;
  const uint8_t *bytes = pages_.begin;
  if (allocation_) {
    image.resize(size_t(size_));
    if (bnb_copy({kDLCPU, 0}, image.data(), device_, allocation_, image.size(), nullptr) != BNB_OK) {
      return "it could not be copied back";
    }
    bytes = image.data();
  }
  if (tensor_.output) content->assign(bytes + lead_, bytes + lead_ + tensor_.span());
  return check_image(bytes);
}

}  // namespace conformance
