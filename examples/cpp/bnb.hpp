// SPDX-License-Identifier: MIT
// A small C++17 wrapper of libbnb for vectors and arrays: views instead of descriptors, owned results, exceptions.
//
// It shows how to wrap the C ABI; copy it, or take what you need. Whatever the library checks, it checks: here are no
// second checks, only the sizes of the outputs that this file allocates.
#ifndef EXAMPLES_CPP_BNB_HPP_
#define EXAMPLES_CPP_BNB_HPP_

#include <bnb/bnb.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace bnb_example {

// Thrown for every status but BNB_OK, with the library's words.
class Error : public std::runtime_error {
 public:
  explicit Error(bnb_status status) : std::runtime_error(bnb_last_error()), status_(status) {}
  bnb_status status() const { return status_; }

 private:
  bnb_status status_;
};

inline void check(bnb_status status) {
  if (status != BNB_OK) throw Error(status);
}

template <typename T>
constexpr DLDataType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return {kDLFloat, 32, 1};
  else if constexpr (std::is_same_v<T, int8_t>)
    return {kDLInt, 8, 1};
  else
    return {kDLUInt, 8, 1};
}

// Elements somebody else owns: what std::span is in C++20.
template <typename T>
class Span {
 public:
  Span(T *data, std::size_t size) : data_(data), size_(size) {}
  template <typename Container>
  Span(Container &container) : data_(container.data()), size_(container.size()) {}
  T *data() const { return data_; }
  std::size_t size() const { return size_; }
  T &operator[](std::size_t i) const { return data_[i]; }

 private:
  T *data_;
  std::size_t size_;
};

// A descriptor of a span, as one dimension or as rows and columns. Good while it and the memory live.
class Tensor {
 public:
  template <typename T>
  explicit Tensor(Span<T> span) : Tensor(span, {int64_t(span.size()), 1}, 1) {}
  template <typename T>
  Tensor(Span<T> span, int64_t rows, int64_t cols) : Tensor(span, {rows, cols}, 2) {}
  Tensor(const Tensor &) = delete;
  Tensor &operator=(const Tensor &) = delete;
  operator DLTensor *() { return &tensor_; }

 private:
  template <typename T>
  Tensor(Span<T> span, std::array<int64_t, 2> shape, int32_t ndim) : shape_(shape), tensor_{} {
    tensor_.data = const_cast<std::remove_const_t<T> *>(span.data());  // inputs are only read
    tensor_.device = {kDLCPU, 0};
    tensor_.ndim = ndim;
    tensor_.dtype = dtype_of<std::remove_const_t<T>>();
    tensor_.shape = shape_.data();
  }

  std::array<int64_t, 2> shape_;
  DLTensor tensor_;
};

// Numbers in 8 bits each, with one scale per block. Owns its memory; knows how to come back.
class Blockwise8bit {
 public:
  Blockwise8bit(Span<const float> values, int64_t blocksize, bool is_signed = true)
      : blocksize_(blocksize), codes_(values.size()) {
    check(bnb_create_dynamic_map(is_signed, code_.data()));
    if (blocksize > 0) absmax_.resize((values.size() + blocksize - 1) / blocksize);
    check(cquantize_blockwise(Tensor(values), Tensor(Span<const float>(code_)), blocksize_,
                              Tensor(Span<uint8_t>(codes_)), Tensor(Span<float>(absmax_)), nullptr));
  }

  std::vector<float> dequantize() const {
    std::vector<float> values(codes_.size());
    check(cdequantize_blockwise(Tensor(Span<const uint8_t>(codes_)), Tensor(Span<const float>(absmax_)),
                                Tensor(Span<const float>(code_)), blocksize_, Tensor(Span<float>(values)), nullptr));
    return values;
  }

  std::size_t bytes() const { return codes_.size() + absmax_.size() * sizeof(float); }

 private:
  int64_t blocksize_;
  std::array<float, 256> code_{};
  std::vector<uint8_t> codes_;
  std::vector<float> absmax_;
};

// A matrix in int8, every row with a scale of its own, as LLM.int8() multiplies it.
class Int8Matrix {
 public:
  Int8Matrix(Span<const float> values, int64_t rows, int64_t cols)
      : rows_(rows), cols_(cols), codes_(values.size()), row_stats_(std::size_t(rows)) {
    check(cquantize_int8_vectorwise(Tensor(values, rows, cols), 0.0f, Tensor(Span<int8_t>(codes_), rows, cols),
                                    Tensor(Span<float>(row_stats_)), nullptr, nullptr));
  }

  std::vector<float> dequantize() const {
    std::vector<float> values(codes_.size());
    check(cdequantize_int8_vectorwise(Tensor(Span<const int8_t>(codes_), rows_, cols_),
                                      Tensor(Span<const float>(row_stats_)), Tensor(Span<float>(values), rows_, cols_),
                                      nullptr));
    return values;
  }

 private:
  int64_t rows_, cols_;
  std::vector<int8_t> codes_;
  std::vector<float> row_stats_;
};

}  // namespace bnb_example

#endif  // EXAMPLES_CPP_BNB_HPP_
