// SPDX-License-Identifier: MIT
// The helpers of api/bitsandbytes_call.h.
#include "api/bitsandbytes_call.h"

#include <cstdlib>

namespace bnb::api {
namespace {

DLDataType dlpack_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return {kDLFloat, 32, 1};
    case DType::kF16: return {kDLFloat, 16, 1};
    case DType::kBF16: return {kDLBfloat, 16, 1};
    case DType::kU8: return {kDLUInt, 8, 1};
    case DType::kI8: return {kDLInt, 8, 1};
    default: return {kDLInt, 32, 1};
  }
}

}  // namespace

Bare::Bare(Pointers &pointers, DType dtype, const void *data, bool written, int32_t ndim, int64_t dim0, int64_t dim1, int64_t stride)
    : shape_{dim0, dim1}, strides_{ndim == 2 ? stride : 1, 1}, tensor_{} {
  tensor_.ndim = ndim;
  tensor_.dtype = dlpack_of(dtype);
  tensor_.shape = shape_;
  if (ndim == 2 && stride != dim1) tensor_.strides = strides_;
  tensor_.data = pointers.place(data, bytes(), written, &tensor_.device);
}

// From the first to the last; 0 where the sizes make no sense, which the operation reports.
int64_t Bare::bytes() const {
  const int64_t itemsize = tensor_.dtype.bits / 8;
  int64_t elements = shape_[0], last = 0, total = 0;
  bool sense = shape_[0] >= 0;
  if (tensor_.ndim == 2) {
    if (shape_[0] <= 0 || shape_[1] <= 0) return 0;
    sense = shape_[0] == 1 || strides_[0] >= shape_[1];
    sense = sense && !__builtin_mul_overflow(shape_[0] - 1, strides_[0], &last) && !__builtin_add_overflow(last, shape_[1], &elements);
  }
  return sense && !__builtin_mul_overflow(elements, itemsize, &total) ? total : 0;
}

Temporary::Temporary(const Backend *backend, const Queue &queue, int64_t bytes)
    : backend_(backend), queue_(queue), bytes_(bytes > 0 ? size_t(bytes) : 0), status_(BNB_OK) {
  if (bytes_ == 0) return;
  if (backend_) {
    status_ = borrow(backend_, queue_, bytes_, &data_);
  } else {
    data_ = std::malloc(bytes_);
    if (!data_) status_ = fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes", bytes_);
  }
}

Temporary::~Temporary() {
  if (backend_) {
    if (data_) give_back(backend_, queue_, data_, bytes_);
  } else {
    std::free(data_);
  }
}

}  // namespace bnb::api
