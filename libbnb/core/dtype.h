// SPDX-License-Identifier: MIT
// Element types as the library sees them: DLPack's, named, plus loads and stores that forgive unaligned pointers.
#ifndef BNB_CORE_DTYPE_H_
#define BNB_CORE_DTYPE_H_

#include <bnb/dlpack.h>

#include <cstdint>
#include <cstring>

#include "formats/float16.h"

namespace bnb {

enum class DType : uint8_t { kF32, kF16, kBF16, kU8, kI8, kI32, kF8E4M3FN, kF8E5M2, kF8E8M0FNU, kF4E2M1FNx2, kF64, kI64, kOther };

DType dtype_of(DLDataType dtype);
const char *dtype_name(DLDataType dtype);  // "float32"; "dtype(code, bits, lanes)" for what has no name here
BNB_INLINE bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

// Tag types for templates over the three float dtypes: their storage and their exact meaning in fp32. A GPU has instructions for it,
// with the same results but for what is in a NaN.
struct F32 {
  using Storage = float;
  static constexpr DType kDType = DType::kF32;
  static BNB_INLINE float widen(float x) { return x; }
  static BNB_INLINE float narrow(float x) { return x; }
};
struct F16 {
  using Storage = uint16_t;
  static constexpr DType kDType = DType::kF16;
  static BNB_INLINE float widen(uint16_t x) {
#if defined(__CUDA_ARCH__)
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
    return wide;
#elif defined(__HIP_DEVICE_COMPILE__)
    return float(__builtin_bit_cast(_Float16, x));
#else
    return formats::float_from_fp16(x);
#endif
  }
  static BNB_INLINE uint16_t narrow(float x) {
#if defined(__CUDA_ARCH__)
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#elif defined(__HIP_DEVICE_COMPILE__)
    return __builtin_bit_cast(uint16_t, _Float16(x));
#else
    return formats::fp16_from_float(x);
#endif
  }
};
struct BF16 {
  using Storage = uint16_t;
  static constexpr DType kDType = DType::kBF16;
  static BNB_INLINE float widen(uint16_t x) { return formats::float_from_bf16(x); }
  static BNB_INLINE uint16_t narrow(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint16_t half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    return formats::bf16_from_float(x);
#endif
  }
};

// Element i of an array that may lie at any address.
//
// On a GPU a copy of bytes is one of bytes, even if they are aligned: there it is asked. The bytes of the other way are volatile, or the
// compiler would see that both ways do the same, and make one of them: that of bytes.
template <typename T>
BNB_INLINE T load(const void *array, int64_t i) {
  const char *place = static_cast<const char *>(array) + i * int64_t(sizeof(T));
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  if (reinterpret_cast<uintptr_t>(place) % sizeof(T) == 0) return *reinterpret_cast<const T *>(place);
  char bytes[sizeof(T)];
  for (int k = 0; k < int(sizeof(T)); ++k) bytes[k] = static_cast<const volatile char *>(place)[k];
  place = bytes;
#endif
  T value;
  __builtin_memcpy(&value, place, sizeof(T));
  return value;
}
template <typename T>
BNB_INLINE void store(void *array, int64_t i, T value) {
  char *place = static_cast<char *>(array) + i * int64_t(sizeof(T));
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  if (reinterpret_cast<uintptr_t>(place) % sizeof(T) == 0) {
    *reinterpret_cast<T *>(place) = value;
    return;
  }
  char bytes[sizeof(T)];
  __builtin_memcpy(bytes, &value, sizeof(T));
  for (int k = 0; k < int(sizeof(T)); ++k) static_cast<volatile char *>(place)[k] = bytes[k];
#else
  __builtin_memcpy(place, &value, sizeof(T));
#endif
}
template <typename Tag>
BNB_INLINE float load_float(const void *array, int64_t i) {
  return Tag::widen(load<typename Tag::Storage>(array, i));
}
template <typename Tag>
BNB_INLINE void store_float(void *array, int64_t i, float value) {
  store<typename Tag::Storage>(array, i, Tag::narrow(value));
}

// Calls body(tag) with the tag of a float dtype.
template <typename Body>
inline void with_float(DType dtype, Body &&body) {
  switch (dtype) {
    case DType::kF32: body(F32{}); break;
    case DType::kF16: body(F16{}); break;
    default: body(BF16{}); break;
  }
}

}  // namespace bnb

#endif  // BNB_CORE_DTYPE_H_
