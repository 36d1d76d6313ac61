// SPDX-License-Identifier: MIT
// What C++, CUDA, HIP and Metal spell differently in the format headers: function and constant qualifiers, bit casts.
#ifndef BNB_FORMATS_PORTABLE_H_
#define BNB_FORMATS_PORTABLE_H_

#if defined(__METAL_VERSION__)
// Metal's language is C++14: no namespaces in one go, no inline variables. Its bit casts are no constant expressions, so that functions
// that make use of them are not constexpr there; and whatever has an address says in which memory.
#include <metal_stdlib>
using namespace metal;
#define BNB_FN inline
#define BNB_CONSTEXPR
#define BNB_TABLE constant constexpr
#else
#define BNB_CONSTEXPR constexpr
#include <cstdint>
#include <cstring>
// CPU kernels compile these headers with flags that not every CPU can run. An `inline` function that is not inlined is a weak
// symbol, of which the linker keeps any one copy for everybody: what kernels include is always inlined.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define BNB_INLINE __host__ __device__ inline __attribute__((always_inline))
#define BNB_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define BNB_INLINE __forceinline
#define BNB_NOINLINE __declspec(noinline)
#else
#define BNB_INLINE inline __attribute__((always_inline))
#define BNB_NOINLINE __attribute__((noinline))  // for what is rare, beside a loop that needs the registers
#endif
#if defined(__CUDACC__) || defined(__HIPCC__)
#define BNB_FN __host__ __device__ inline
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#define BNB_TABLE static __device__ constexpr
#else
#define BNB_TABLE static constexpr
#endif
#else
#define BNB_FN BNB_INLINE
#define BNB_TABLE constexpr
#endif
#endif

namespace bnb {
namespace formats {

// A bit pattern seen as a float, and back. constexpr where the language can, so that tables stay tables.
#if defined(__METAL_VERSION__)
BNB_FN float float_from_bits(uint32_t bits) { return as_type<float>(bits); }
BNB_FN uint32_t bits_from_float(float value) { return as_type<uint>(value); }
#else
BNB_FN constexpr float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
BNB_FN constexpr uint32_t bits_from_float(float value) { return __builtin_bit_cast(uint32_t, value); }
#endif

}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_PORTABLE_H_
