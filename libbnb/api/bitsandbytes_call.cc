// SPDX-License-Identifier: MIT
// The helpers of api/bitsandbytes_call.h.
#include "api/bitsandbytes_call.h"

#include <cstdio>

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

Bare::Bare(DType dtype, const void *data, int32_t ndim, int64_t dim0, int64_t dim1) : shape_{dim0, dim1}, tensor_{} {
  tensor_.data = const_cast<void *>(data);  // operations take their inputs as const DLTensor
  tensor_.device = kPointerDevice;
  tensor_.ndim = ndim;
  tensor_.dtype = dlpack_of(dtype);
  tensor_.shape = shape_;
}

bnb_status as(const char *function, bnb_status status) {
  if (status == BNB_OK) return BNB_OK;
  char text[512];
  std::snprintf(text, sizeof text, "%s", bnb_last_error());
  return fail(status, "%s: %s", function, text);
}

}  // namespace bnb::api
