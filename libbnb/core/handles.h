// SPDX-License-Identifier: MIT
// Buffers that are handles, not addresses (Metal). Operations take plain pointers: for the length of a call each buffer gets a span of
// addresses that no memory has, and the backend asks here which buffer, and which byte of it, a pointer means.
#ifndef BNB_CORE_HANDLES_H_
#define BNB_CORE_HANDLES_H_

#include <cstdint>
#include <cstdlib>

namespace bnb {

class Handles {
 public:
  static constexpr int kOffsetBits = 48;  // of an address: the byte within its buffer; above them, which buffer, counted from 1
  static constexpr int64_t kMost = (int64_t(1) << (64 - kOffsetBits)) - 1;

  Handles() = default;
  ~Handles() { std::free(list_); }
  Handles(const Handles &) = delete;
  Handles &operator=(const Handles &) = delete;

  // Where the span of a buffer begins; 0 if there is no memory or there are too many.
  uintptr_t add(void *handle) {
    if (count_ == capacity_ && !grow()) return 0;
    list_[count_] = handle;
    return uintptr_t(++count_) << kOffsetBits;
  }

  // The buffer of an address; NULL for NULL.
  void *buffer(const void *address) const {
    const int64_t index = int64_t(reinterpret_cast<uintptr_t>(address) >> kOffsetBits);
    return index > 0 && index <= count_ ? list_[index - 1] : nullptr;
  }
  static uint64_t offset(const void *address) {
    return reinterpret_cast<uintptr_t>(address) & ((uintptr_t(1) << kOffsetBits) - 1);
  }

 private:
  bool grow() {
    const int64_t more = capacity_ ? 2 * capacity_ : 16;
    if (count_ >= kMost) return false;
    void *list = std::realloc(list_, size_t(more) * sizeof(void *));
    if (!list) return false;
    list_ = static_cast<void **>(list);
    capacity_ = more;
    return true;
  }

  void **list_ = nullptr;
  int64_t count_ = 0, capacity_ = 0;
};

}  // namespace bnb

#endif  // BNB_CORE_HANDLES_H_
