// SPDX-License-Identifier: MIT
// What the functions of bitsandbytes.h share: descriptors for bare pointers, and memory.
#ifndef BNB_API_BITSANDBYTES_CALL_H_
#define BNB_API_BITSANDBYTES_CALL_H_

#include <bnb/bitsandbytes.h>

#include "api/check.h"
#include "api/pointers.h"

namespace bnb::api {

// The dtype behind a type name of bitsandbytes.h: dtypes::T in its lists.
namespace dtypes {
inline constexpr DType bnb_fp32 = DType::kF32, bnb_fp16 = DType::kF16, bnb_bf16 = DType::kBF16;
}

// A tensor over a caller's pointer; `get()` is good for as long as this object and `pointers` live. A pointer to const is an input,
// another is written.
class Bare {
 public:
  Bare(Pointers &pointers, DType dtype, const void *data, int64_t n) : Bare(pointers, dtype, data, false, 1, n, 0, 0) {}
  Bare(Pointers &pointers, DType dtype, void *data, int64_t n) : Bare(pointers, dtype, data, true, 1, n, 0, 0) {}
  // Rows every `stride` elements; without one, compact.
  Bare(Pointers &pointers, DType dtype, const void *data, int64_t rows, int64_t cols, int64_t stride)
      : Bare(pointers, dtype, data, false, 2, rows, cols, stride) {}
  Bare(Pointers &pointers, DType dtype, void *data, int64_t rows, int64_t cols, int64_t stride)
      : Bare(pointers, dtype, data, true, 2, rows, cols, stride) {}
  Bare(Pointers &pointers, DType dtype, const void *data, int64_t rows, int64_t cols) : Bare(pointers, dtype, data, rows, cols, cols) {}
  Bare(Pointers &pointers, DType dtype, void *data, int64_t rows, int64_t cols) : Bare(pointers, dtype, data, rows, cols, cols) {}
  Bare(const Bare &) = delete;
  Bare &operator=(const Bare &) = delete;
  DLTensor *get() { return &tensor_; }

 private:
  Bare(Pointers &pointers, DType dtype, const void *data, bool written, int32_t ndim, int64_t dim0, int64_t dim1, int64_t stride);
  int64_t bytes() const;

  int64_t shape_[2], strides_[2];
  DLTensor tensor_;
};

// Memory on the device of a call for as long as this object lives, in the order of its stream.
class Temporary {
 public:
  Temporary(const Backend *backend, const Queue &queue, int64_t bytes);
  ~Temporary();
  Temporary(const Temporary &) = delete;
  Temporary &operator=(const Temporary &) = delete;
  bnb_status status() const { return status_; }
  template <typename T = void>
  T *data() const {
    return static_cast<T *>(data_);
  }

 private:
  const Backend *backend_;
  Queue queue_;
  size_t bytes_;
  void *data_ = nullptr;
  bnb_status status_;
};

// Blocks of n elements; 0 where n or blocksize make no sense, which the operation reports.
inline int64_t blocks(int64_t n, int64_t blocksize) { return n > 0 && blocksize > 0 ? block_count(n, blocksize) : 0; }

}  // namespace bnb::api

#endif  // BNB_API_BITSANDBYTES_CALL_H_
