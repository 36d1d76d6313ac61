// SPDX-License-Identifier: MIT
// libbnb from C++: 8-bit blockwise and int8 quantization through the wrapper in bnb.hpp, and an exception.
//
// Build and run, once libbnb is installed:
//   c++ -std=c++17 main.cpp $(pkg-config --cflags --libs libbnb) -o int8 && ./int8
#include "bnb.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

namespace {

// The root of the mean squared difference, relative to the values.
double relative_error(const std::vector<float> &values, const std::vector<float> &restored) {
  double error = 0.0, power = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += std::pow(double(restored[i]) - values[i], 2);
    power += std::pow(double(values[i]), 2);
  }
  return std::sqrt(error / power);
}

}  // namespace

int main() {
  using namespace bnb_example;
  constexpr int64_t kRows = 300, kCols = 1000;
  std::vector<float> values(kRows * kCols);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::generate(values.begin(), values.end(), [&] { return normal(random); });

  const Blockwise8bit blockwise(Span<const float>(values), 256);
  std::printf("blockwise: %zu values in %zu bytes, relative error %.4f\n", values.size(), blockwise.bytes(),
              relative_error(values, blockwise.dequantize()));

  const Int8Matrix matrix(Span<const float>(values), kRows, kCols);
  std::printf("int8: relative error %.4f\n", relative_error(values, matrix.dequantize()));

  try {
    Blockwise8bit(Span<const float>(values), 0);
  } catch (const Error &error) {
    std::printf("block size 0: %s: %s\n", bnb_status_name(error.status()), error.what());
    return 0;
  }
  return 1;
}
