// SPDX-License-Identifier: MIT
// What the functions of bitsandbytes.h share: descriptors for bare pointers, and errors under the name that was called.
#ifndef BNB_API_BITSANDBYTES_CALL_H_
#define BNB_API_BITSANDBYTES_CALL_H_

#include <bnb/bitsandbytes.h>

#include "api/check.h"

namespace bnb::api {

// The dtype behind a type name of bitsandbytes.h: dtypes::T in its lists.
namespace dtypes {
inline constexpr DType bnb_fp32 = DType::kF32, bnb_fp16 = DType::kF16, bnb_bf16 = DType::kBF16;
}

// The device of bare pointers. In the CPU library all of them are host memory.
inline constexpr DLDevice kPointerDevice{kDLCPU, 0};

// A compact tensor over a caller's pointer; `get()` is good for as long as this object lives.
class Bare {
 public:
  Bare(DType dtype, const void *data, int64_t n) : Bare(dtype, data, 1, n, 0) {}
  Bare(DType dtype, const void *data, int64_t rows, int64_t cols) : Bare(dtype, data, 2, rows, cols) {}
  Bare(const Bare &) = delete;
  Bare &operator=(const Bare &) = delete;
  DLTensor *get() { return &tensor_; }

 private:
  Bare(DType dtype, const void *data, int32_t ndim, int64_t dim0, int64_t dim1);

  int64_t shape_[2];
  DLTensor tensor_;
};

// Blocks of n elements; 0 where n or blocksize make no sense, which the operation reports.
inline int64_t blocks(int64_t n, int64_t blocksize) { return n > 0 && blocksize > 0 ? block_count(n, blocksize) : 0; }

// Passes a status on; the text of an error gets `function` in front, the name that the caller knows.
bnb_status as(const char *function, bnb_status status);

}  // namespace bnb::api

#endif  // BNB_API_BITSANDBYTES_CALL_H_
