// SPDX-License-Identifier: MIT
// The codes of codes.h.
#include "codes.h"

#include <algorithm>
#include <cmath>

#include "formats/dynamic_map.h"
#include "formats/nf4.h"

namespace conformance {
namespace {

std::vector<float> from_bits(const uint32_t (&bits)[256]) {
  std::vector<float> values(256);
  for (size_t i = 0; i < 256; ++i) values[i] = bnb::formats::float_from_bits(bits[i]);
  return values;
}

// 255 steps, and the middle one twice.
std::vector<float> linear() {
  std::vector<float> values;
  for (int i = 0; i < 255; ++i) values.push_back(float(i - 127) / 127.0f);
  values.insert(values.begin() + 127, 0.0f);
  return values;
}

// Every fraction at every exponent, from 1 downwards; the lowest exponent is subnormal.
std::vector<float> small_float(int exponent_bits, int mantissa_bits) {
  std::vector<float> values;
  const int bias = 1 << (exponent_bits - 1);
  for (int exponent = 0; exponent < 1 << exponent_bits; ++exponent) {
    for (int fraction = 0; fraction < 1 << mantissa_bits; ++fraction) {
      const double f = double(fraction) / double(1 << mantissa_bits);
      const double value = exponent ? std::ldexp(1.0 + f, bias + 1 - exponent) : std::ldexp(f, -bias);
      values.push_back(float(value));
      values.push_back(float(-value));
    }
  }
  std::sort(values.begin(), values.end());
  const float largest = values.back();
  for (float &value : values) value /= largest;
  return values;
}

std::vector<float> normal() {
  std::vector<float> values(240, 0.0f);
  for (uint8_t i = 0; i < 16; ++i) values.push_back(bnb::formats::nf4::decode(i));
  std::sort(values.begin(), values.end());
  return values;
}

template <typename Draw>
std::vector<float> sorted(Draw &&draw) {
  std::vector<float> values(256);
  for (float &value : values) value = draw();
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

const char *name_of(Code code) {
  switch (code) {
    case Code::kDynamicSigned: return "dynamic";
    case Code::kDynamicUnsigned: return "dynamic_unsigned";
    case Code::kLinear: return "linear";
    case Code::kE4M3: return "e4m3";
    case Code::kE5M2: return "e5m2";
    case Code::kNormal: return "normal_map";
    case Code::kRandom: return "random_code";
    case Code::kDense: return "dense";
    case Code::kDenseAtZero: return "dense_at_zero";
    case Code::kBeyondOne: return "beyond_one";
    case Code::kOneSided: return "one_sided";
    case Code::kConstant: return "constant_code";
    case Code::kTwoValues: return "two_values";
  }
  return "?";
}

std::vector<float> values_of(Code code, Random &random) {
  switch (code) {
    case Code::kDynamicSigned: return from_bits(bnb::formats::dynamic_map::kSignedBits);
    case Code::kDynamicUnsigned: return from_bits(bnb::formats::dynamic_map::kUnsignedBits);
    case Code::kLinear: return linear();
    case Code::kE4M3: return small_float(4, 3);
    case Code::kE5M2: return small_float(5, 2);
    case Code::kNormal: return normal();
    case Code::kRandom: return sorted([&] { return random.uniform(); });
    case Code::kDense: return sorted([&] { return float(0.999 + 0.001 * random.unit()); });
    case Code::kDenseAtZero: {
      std::vector<float> values = sorted([&] { return 1e-6f * random.uniform(); });
      values.back() = 1.0f;
      return values;
    }
    case Code::kBeyondOne: return sorted([&] { return 3.0f * random.uniform(); });
    case Code::kOneSided: return sorted([&] { return -float(random.unit()); });
    case Code::kConstant: return std::vector<float>(256, 0.25f);
    case Code::kTwoValues: return sorted([&] { return random.one_in(2) ? 0.5f : -0.5f; });
  }
  return {};
}

Thresholds thresholds_of(const std::vector<float> &code) {
  Thresholds thresholds;
  for (size_t i = 0; i + 1 < code.size(); ++i) thresholds.at.push_back((code[i] + code[i + 1]) * 0.5f);
  return thresholds;
}

}  // namespace conformance
