// SPDX-License-Identifier: MIT
// A call of one operation, described without any memory: its tensors, the content of the inputs, and the call itself.
#ifndef TESTS_CONFORMANCE_CALL_H_
#define TESTS_CONFORMANCE_CALL_H_

#include <bnb/bnb.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

namespace conformance {

constexpr DLDataType kF32{kDLFloat, 32, 1}, kF16{kDLFloat, 16, 1}, kBF16{kDLBfloat, 16, 1};
constexpr DLDataType kU8{kDLUInt, 8, 1}, kI8{kDLInt, 8, 1}, kI32{kDLInt, 32, 1}, kF64{kDLFloat, 64, 1};

inline int64_t size_of(DLDataType dtype) { return dtype.bits * dtype.lanes / 8; }
inline bool is_float(DLDataType dtype) { return dtype.code == kDLFloat || dtype.code == kDLBfloat; }
inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

using Bytes = std::vector<uint8_t>;

template <typename T>
Bytes bytes_of(const std::vector<T> &values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// What a NaN in an output has to look like. The states that quantizers store have one NaN, 0x7FC00000. Of dequantized
// values bnb.h only says that they are NaN: which one comes out of 0 * infinity is the processor's choice.
enum class Nan { kSameBits, kAny };

struct Tensor {
  const char *name;
  DLDataType dtype;
  std::vector<int64_t> shape;
  bool output;
  Bytes content;           // of an input, or of an output that is updated: all elements, compact
  int64_t row_stride = 0;  // elements from one row of a matrix to the next; 0: compact
  Nan nan = Nan::kSameBits;

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
  }
  int64_t row_elements() const { return shape.size() == 2 ? shape[1] : elements(); }
  int64_t stride() const { return row_stride ? row_stride : row_elements(); }

  // From the first byte to the last, gaps between rows included.
  int64_t span() const {
    if (elements() == 0) return 0;
    const int64_t rows = elements() / row_elements();
    return ((rows - 1) * stride() + row_elements()) * size_of(dtype);
  }
};

struct Call {
  std::vector<Tensor> tensors;
  std::function<bnb_status(DLTensor *const *tensors)> invoke;

  // For messages: the input whose elements become the elements of outputs, and how many of them share an item of an
  // output.
  int source = 0;
  int64_t elements_per_item = 1;

  // Each returns the tensor's index, which is its place in what `invoke` gets.
  int input(const char *name, DLDataType dtype, std::vector<int64_t> shape, Bytes content, int64_t row_stride = 0) {
    tensors.push_back({name, dtype, std::move(shape), false, std::move(content), row_stride, Nan::kSameBits});
    return int(tensors.size()) - 1;
  }
  int output(const char *name, DLDataType dtype, std::vector<int64_t> shape, Nan nan = Nan::kSameBits) {
    tensors.push_back({name, dtype, std::move(shape), true, {}, 0, nan});
    return int(tensors.size()) - 1;
  }
  int updated(const char *name, DLDataType dtype, std::vector<int64_t> shape, Bytes content, Nan nan = Nan::kSameBits) {
    tensors.push_back({name, dtype, std::move(shape), true, std::move(content), 0, nan});
    return int(tensors.size()) - 1;
  }
};

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_CALL_H_
