// SPDX-License-Identifier: MIT
// Element counts and block sizes around every edge, and the names of cases.
#ifndef TESTS_CONFORMANCE_SIZES_H_
#define TESTS_CONFORMANCE_SIZES_H_

#include <algorithm>
#include <string>
#include <vector>

#include "fills.h"
#include "values.h"

namespace conformance {

struct Size {
  int64_t n, blocksize;
  int64_t blocks() const { return ceil_div(n, blocksize); }
};

inline std::string name_of(Size size) { return "n" + std::to_string(size.n) + "/bs" + std::to_string(size.blocksize); }
inline std::string name_of(DLDataType dtype) { return corners_of(dtype).name; }

// step: what block sizes have to be a multiple of.
inline std::vector<Size> edge_sizes(int64_t step, bool quick) {
  std::vector<Size> sizes;
  const auto add = [&](int64_t n, int64_t blocksize) {
    const bool known =
        std::any_of(sizes.begin(), sizes.end(), [&](Size s) { return s.n == n && s.blocksize == blocksize; });
    if (n >= 0 && !known) sizes.push_back({n, blocksize});
  };
  std::vector<int64_t> blocks = {step, 3 * step, 10, 32, 64, 100, 256, 4096};
  if (quick) blocks = {step, 3 * step, 64, 100};
  for (int64_t b : blocks) {
    for (int64_t n : {int64_t(0), int64_t(1), int64_t(2), b - 1, b, b + 1, 2 * b + 1, 3 * b - 1, 5 * b + b / 2 + 1})
      add(n, b);
    add(1021, b);
  }
  const int64_t widest = INT64_MAX / step * step;  // products with it overflow
  for (int64_t n : {1, 2, 31, 127, 1000}) {
    add(n, ceil_div(n, step) * step);
    add(n, (n + 1) * step);
    add(n, widest);
  }
  return sizes;
}

// Large enough for every thread to get several chunks of work; odd tails.
inline std::vector<Size> large_sizes(int64_t step, bool quick) {
  if (quick) return {{150001, 64}};
  return {{700001, 64}, {700003, 100 * step}, {600001, 300000}, {1000001, step}, {500001, 500001 + step - 1}};
}

inline std::vector<Size> fill_sizes(bool quick) {
  if (quick) return {{1021, 64}};
  return {{1021, 64}, {4103, 256}, {3000, 100}};
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SIZES_H_
