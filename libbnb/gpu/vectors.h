// SPDX-License-Identifier: MIT
// How kernels move data: several items of a thread at once where the address allows it, one by one where not.
#ifndef BNB_GPU_VECTORS_H_
#define BNB_GPU_VECTORS_H_

#include "core/dtype.h"
#include "gpu/compat.h"

namespace bnb::gpu {

// kCount items of up to 16 bytes together, one load or store.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T)) Items {
  static_assert(kCount * sizeof(T) <= 16, "the widest access of a thread");
  T at[kCount];
};

// One access to an aligned place. On the host it is a copy of bytes: g++ merges the two ways of load_items(), or of store_items(), and
// then takes the place for aligned in both.
template <typename Vector>
BNB_DEVICE Vector load_aligned(const char *place) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  return *reinterpret_cast<const Vector *>(place);
#else
  Vector vector;
  __builtin_memcpy(&vector, place, sizeof vector);
  return vector;
#endif
}

template <typename Vector>
BNB_DEVICE void store_aligned(char *place, const Vector &vector) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  *reinterpret_cast<Vector *>(place) = vector;
#else
  __builtin_memcpy(place, &vector, sizeof vector);
#endif
}

template <typename T, int kCount>
BNB_DEVICE Items<T, kCount> load_items(const void *array, int64_t i) {
  using Vector = Items<T, kCount>;
  const char *place = static_cast<const char *>(array) + i * int64_t(sizeof(T));
  if (reinterpret_cast<uintptr_t>(place) % sizeof(Vector) == 0) return load_aligned<Vector>(place);
  Vector items;
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) items.at[j] = load<T>(array, i + j);
  return items;
}

template <typename T, int kCount>
BNB_DEVICE void store_items(void *array, int64_t i, const Items<T, kCount> &items) {
  char *place = static_cast<char *>(array) + i * int64_t(sizeof(T));
  if (reinterpret_cast<uintptr_t>(place) % sizeof(items) == 0) {
    store_aligned(place, items);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) store<T>(array, i + j, items.at[j]);
}

// Items i to i + kCount - 1, zeros past `count` of them; and the inverse.
template <typename T, int kCount>
BNB_DEVICE Items<T, kCount> load_up_to(const void *array, int64_t i, int64_t count) {
  if (count >= kCount) return load_items<T, kCount>(array, i);
  Items<T, kCount> items;
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) items.at[j] = j < count ? load<T>(array, i + j) : T(0);
  return items;
}
template <typename T, int kCount>
BNB_DEVICE void store_up_to(void *array, int64_t i, int64_t count, const Items<T, kCount> &items) {
  if (count >= kCount) {
    store_items<T, kCount>(array, i, items);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) {
    if (j < count) store<T>(array, i + j, items.at[j]);
  }
}

// The floats of a word, one of 32 bits or two of 16; and the inverse.
template <typename Tag>
BNB_DEVICE void widen_word(uint32_t word, float *x) {
  if constexpr (sizeof(typename Tag::Storage) == 4) {
    x[0] = formats::float_from_bits(word);
  } else {
    x[0] = Tag::widen(uint16_t(word));
    x[1] = Tag::widen(uint16_t(word >> 16));
  }
}
template <typename Tag>
BNB_DEVICE uint32_t narrow_word(const float *x) {
  if constexpr (sizeof(typename Tag::Storage) == 4) {
    return formats::bits_from_float(x[0]);
  } else {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // both at once
    uint32_t word;
    if constexpr (Tag::kDType == DType::kF16) {
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(x[1]), "f"(x[0]));
    } else {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(x[1]), "f"(x[0]));
    }
    return word;
#else
    return Tag::narrow(x[0]) | uint32_t(Tag::narrow(x[1])) << 16;
#endif
  }
}

// x[j] = element i + j for j < kCount, 0 past `count` of them. kCount is a multiple of 8. All is asked for before any of it is used.
template <typename Tag, int kCount>
BNB_DEVICE void load_floats(const void *array, int64_t i, int64_t count, float *x) {
  constexpr int kBytes = int(sizeof(typename Tag::Storage)), kOfWord = 4 / kBytes, kVectors = kCount * kBytes / 16;
  static_assert(kCount * kBytes % 16 == 0, "whole vectors");
  const char *place = static_cast<const char *>(array) + i * kBytes;
  if (count >= kCount && reinterpret_cast<uintptr_t>(place) % 16 == 0) {
    Items<uint32_t, 4> vectors[kVectors];
    BNB_UNROLL
    for (int v = 0; v < kVectors; ++v) vectors[v] = load_aligned<Items<uint32_t, 4>>(place + 16 * v);
    BNB_UNROLL
    for (int w = 0; w < 4 * kVectors; ++w) widen_word<Tag>(vectors[w / 4].at[w % 4], x + kOfWord * w);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) x[j] = j < count ? load_float<Tag>(place, j) : 0.0f;
}

// The inverse; writes `count` of them at most.
template <typename Tag, int kCount>
BNB_DEVICE void store_floats(void *array, int64_t i, int64_t count, const float *x) {
  constexpr int kBytes = int(sizeof(typename Tag::Storage)), kOfWord = 4 / kBytes, kVectors = kCount * kBytes / 16;
  static_assert(kCount * kBytes % 16 == 0, "whole vectors");
  char *place = static_cast<char *>(array) + i * kBytes;
  if (count >= kCount && reinterpret_cast<uintptr_t>(place) % 16 == 0) {
    BNB_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Items<uint32_t, 4> words;
      BNB_UNROLL
      for (int w = 0; w < 4; ++w) words.at[w] = narrow_word<Tag>(x + kOfWord * (4 * v + w));
      store_aligned(place + 16 * v, words);
    }
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) {
    if (j < count) store_float<Tag>(place, j, x[j]);
  }
}

// codes[j] to and from bytes i + j, likewise.
template <int kCount>
BNB_DEVICE void load_bytes(const uint8_t *array, int64_t i, int64_t count, uint8_t *codes) {
  if (count >= kCount) {
    const Items<uint8_t, kCount> items = load_items<uint8_t, kCount>(array, i);
    BNB_UNROLL
    for (int j = 0; j < kCount; ++j) codes[j] = items.at[j];
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) codes[j] = j < count ? array[i + j] : uint8_t(0);
}
template <int kCount>
BNB_DEVICE void store_bytes(uint8_t *array, int64_t i, int64_t count, const uint8_t *codes) {
  if (count >= kCount) {
    Items<uint8_t, kCount> items;
    BNB_UNROLL
    for (int j = 0; j < kCount; ++j) items.at[j] = codes[j];
    store_items<uint8_t, kCount>(array, i, items);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kCount; ++j) {
    if (j < count) array[i + j] = codes[j];
  }
}

// The same for bytes four to a word, the first in the lowest bits.
template <int kWords>
BNB_DEVICE void load_words(const uint8_t *array, int64_t i, int64_t count, uint32_t *words) {
  using Words = Items<uint32_t, kWords>;
  const char *place = reinterpret_cast<const char *>(array) + i;
  if (count >= 4 * kWords && reinterpret_cast<uintptr_t>(place) % sizeof(Words) == 0) {
    const Words items = load_aligned<Words>(place);
    BNB_UNROLL
    for (int j = 0; j < kWords; ++j) words[j] = items.at[j];
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < kWords; ++j) words[j] = 0;
  BNB_UNROLL
  for (int j = 0; j < 4 * kWords; ++j) {
    if (j < count) words[j / 4] |= uint32_t(array[i + j]) << (j % 4 * 8);
  }
}
template <int kWords>
BNB_DEVICE void store_words(uint8_t *array, int64_t i, int64_t count, const uint32_t *words) {
  if (count >= 4 * kWords && reinterpret_cast<uintptr_t>(array + i) % sizeof(Items<uint32_t, kWords>) == 0) {
    Items<uint32_t, kWords> items;
    BNB_UNROLL
    for (int j = 0; j < kWords; ++j) items.at[j] = words[j];
    store_aligned(reinterpret_cast<char *>(array + i), items);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < 4 * kWords; ++j) {
    if (j < count) array[i + j] = uint8_t(words[j / 4] >> (j % 4 * 8));
  }
}

// i / divisor for a divisor that is the same for the whole launch, by a multiplication, and 0 <= i < 2^63: with 2^(l-1) < divisor <
// 2^l and the factor 2^(63+l) / divisor rounded up, the quotient is i * factor / 2^(63+l) rounded down.
struct Divisor {
  int64_t value;
  uint64_t factor;
  int shift;           // l - 1
  bool is_power_of_2;  // then the shift is all

  explicit Divisor(int64_t value) : value(value), factor(0), shift(0), is_power_of_2((value & (value - 1)) == 0) {
    while (shift < 62 && int64_t(1) << (shift + 1) <= value) ++shift;
    if (!is_power_of_2) factor = uint64_t(((Wide(1) << (64 + shift)) + Wide(value) - 1) / Wide(value));
  }
  BNB_DEVICE_METHOD int64_t of(int64_t i) const {
    if (is_power_of_2) return i >> shift;
    return int64_t(uint64_t((Wide(uint64_t(i)) * factor) >> 64) >> shift);
  }

 private:
  __extension__ typedef unsigned __int128 Wide;
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_VECTORS_H_
