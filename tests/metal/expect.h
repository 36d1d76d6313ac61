// SPDX-License-Identifier: MIT
// What the tests of Metal's host side share: failures that are told and counted, and a tensor of one dimension.
#ifndef TESTS_METAL_EXPECT_H_
#define TESTS_METAL_EXPECT_H_

#include <bnb/bnb.h>

#include <cstdint>
#include <cstdio>

inline int failures = 0;

inline void expect(bool condition, const char *what) {
  if (condition) return;
  ++failures;
  std::printf("FAIL %s\n     last error: %s\n", what, bnb_last_error());
}

struct Tensor {
  int64_t shape[1];
  DLTensor tensor;
  Tensor(void *data, DLDevice device, DLDataType dtype, int64_t n, uint64_t offset)
      : shape{n}, tensor{data, device, 1, dtype, nullptr, nullptr, offset} {
    tensor.shape = shape;
  }
};

#endif  // TESTS_METAL_EXPECT_H_
