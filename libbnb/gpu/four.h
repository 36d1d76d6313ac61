// SPDX-License-Identifier: MIT
// Four neighbouring elements of an array of any float dtype, which the kernel is told at run time: lists of tensors may mix them.
// Asking for memory and knowing what it means are two steps, so that a thread asks for all it needs before it waits for the first.
#ifndef BNB_GPU_FOUR_H_
#define BNB_GPU_FOUR_H_

#include "gpu/vectors.h"

namespace bnb::gpu {

constexpr int kFour = 4;

struct RawFour {
  uint32_t words[kFour];  // 16-bit dtypes: the first two
};

BNB_DEVICE uint16_t half_of(const RawFour &raw, int j) { return uint16_t(raw.words[j / 2] >> j % 2 * 16); }

// How many of the elements i to i + 3 of n there are.
BNB_DEVICE int count_of_four(int64_t n, int64_t i) { return n - i >= kFour ? kFour : n > i ? int(n - i) : 0; }

// Items i to i + 3, zeros past `count` of them; the inverse, which writes `count` of them at most.
// (Not load_items: one way for all that is not whole and aligned keeps kernels with many arrays small.)
template <typename T>
BNB_DEVICE Items<T, kFour> load_some(const void *array, int64_t i, int count) {
  using Vector = Items<T, kFour>;
  const char *place = static_cast<const char *>(array) + i * int64_t(sizeof(T));
  if (count == kFour && reinterpret_cast<uintptr_t>(place) % sizeof(Vector) == 0) {
    return *reinterpret_cast<const Vector *>(place);
  }
  Vector items;
  BNB_UNROLL
  for (int j = 0; j < kFour; ++j) items.at[j] = j < count ? load<T>(place, j) : T(0);
  return items;
}
template <typename T>
BNB_DEVICE void store_some(void *array, int64_t i, int count, const Items<T, kFour> &items) {
  using Vector = Items<T, kFour>;
  char *place = static_cast<char *>(array) + i * int64_t(sizeof(T));
  if (count == kFour && reinterpret_cast<uintptr_t>(place) % sizeof(Vector) == 0) {
    *reinterpret_cast<Vector *>(place) = items;
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kFour; ++j) {
    if (j < count) store<T>(place, j, items.at[j]);
  }
}

// Elements of a float dtype, likewise.
BNB_DEVICE RawFour load_four(DType dtype, const void *array, int64_t i, int count) {
  RawFour raw{};
  if (dtype == DType::kF32) {
    const Items<uint32_t, kFour> items = load_some<uint32_t>(array, i, count);
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) raw.words[j] = items.at[j];
  } else {
    const Items<uint16_t, kFour> items = load_some<uint16_t>(array, i, count);
    raw.words[0] = items.at[0] | uint32_t(items.at[1]) << 16;
    raw.words[1] = items.at[2] | uint32_t(items.at[3]) << 16;
  }
  return raw;
}

BNB_DEVICE void widen_four(DType dtype, const RawFour &raw, float *x) {
  if (dtype == DType::kF32) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) x[j] = formats::float_from_bits(raw.words[j]);
  } else if (dtype == DType::kF16) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) x[j] = F16::widen(half_of(raw, j));
  } else {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) x[j] = BF16::widen(half_of(raw, j));
  }
}

BNB_DEVICE void store_four(DType dtype, void *array, int64_t i, int count, const float *x) {
  if (dtype == DType::kF32) {
    Items<float, kFour> items;
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) items.at[j] = x[j];
    store_some<float>(array, i, count, items);
    return;
  }
  Items<uint16_t, kFour> items;
  if (dtype == DType::kF16) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) items.at[j] = F16::narrow(x[j]);
  } else {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) items.at[j] = BF16::narrow(x[j]);
  }
  store_some<uint16_t>(array, i, count, items);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_FOUR_H_
