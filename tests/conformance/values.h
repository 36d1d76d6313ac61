// SPDX-License-Identifier: MIT
// Items of the float dtypes as fp32 and back, and what the dtypes' corners are.
#ifndef TESTS_CONFORMANCE_VALUES_H_
#define TESTS_CONFORMANCE_VALUES_H_

#include <cmath>

#include "call.h"
#include "formats/float16.h"

namespace conformance {

inline bool is(DLDataType a, DLDataType b) { return a.code == b.code && a.bits == b.bits; }

inline float value_of(DLDataType dtype, const uint8_t *item) {
  uint64_t bits = 0;
  std::memcpy(&bits, item, size_t(size_of(dtype)));
  if (is(dtype, kF64)) return float(__builtin_bit_cast(double, bits));
  if (is(dtype, kF16)) return bnb::formats::float_from_fp16(uint16_t(bits));
  if (is(dtype, kBF16)) return bnb::formats::float_from_bf16(uint16_t(bits));
  return bnb::formats::float_from_bits(uint32_t(bits));
}

inline bool is_nan(DLDataType dtype, const uint8_t *item) {
  return is_float(dtype) && std::isnan(value_of(dtype, item));
}

// Each value rounded to the dtype.
inline Bytes narrowed(DLDataType dtype, const std::vector<float> &values) {
  if (is(dtype, kF32)) return bytes_of(values);
  std::vector<uint16_t> items;
  items.reserve(values.size());
  for (float value : values) {
    items.push_back(is(dtype, kF16) ? bnb::formats::fp16_from_float(value) : bnb::formats::bf16_from_float(value));
  }
  return bytes_of(items);
}

struct Corners {
  const char *name;
  float largest, smallest_normal, smallest;
  int mantissa_bits;
};

inline Corners corners_of(DLDataType dtype) {
  if (is(dtype, kF16)) return {"fp16", 65504.0f, 0x1p-14f, 0x1p-24f, 10};
  if (is(dtype, kBF16)) return {"bf16", 0x1.fep127f, 0x1p-126f, 0x1p-133f, 7};
  return {"fp32", 0x1.fffffep127f, 0x1p-126f, 0x1p-149f, 23};
}

constexpr DLDataType kFloats[] = {kF32, kF16, kBF16};

// Cases that are there for each float dtype: with all of them, or, in quick runs, with one in turn.
class Turns {
 public:
  explicit Turns(bool quick) : quick_(quick) {}
  template <typename Body>
  void each_dtype(const Body &body) {
    const size_t turn = of(case_++);
    for (size_t i = 0; i < 3; ++i) {
      if (!quick_ || i == turn) body(kFloats[i]);
    }
  }
  // Which of kFloats case i has: no turn for loops of three.
  static size_t of(size_t i) { return (i + i / 3 + i / 64) % 3; }

 private:
  bool quick_;
  size_t case_ = 0;
};

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_VALUES_H_
