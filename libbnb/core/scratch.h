// SPDX-License-Identifier: MIT
// Memory for the duration of a call.
#ifndef BNB_CORE_SCRATCH_H_
#define BNB_CORE_SCRATCH_H_

#include <cstdint>
#include <cstdlib>
#include <type_traits>

namespace bnb {

// `count` uninitialised values of a plain type. usable() is false if there is no memory for them.
template <typename T>
class Scratch {
  static_assert(std::is_trivially_destructible<T>::value, "nothing is destroyed");

 public:
  explicit Scratch(int64_t count) {
    size_t bytes = 0;
    if (count < 0 || __builtin_mul_overflow(size_t(count), sizeof(T), &bytes)) return;
    data_ = static_cast<T *>(std::malloc(bytes ? bytes : 1));
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  bool usable() const { return data_ != nullptr; }
  T *data() const { return data_; }
  T &operator[](int64_t i) const { return data_[i]; }

 private:
  T *data_ = nullptr;
};

}  // namespace bnb

#endif  // BNB_CORE_SCRATCH_H_
