// SPDX-License-Identifier: MIT
// What every kernel file includes first: Metal's library, arithmetic as it is written, the formats.
#ifndef BNB_METAL_KERNELS_COMMON_H_
#define BNB_METAL_KERNELS_COMMON_H_

#include <metal_stdlib>

// a * b + c is two roundings. The compiler is told not to be fast, which leaves this to be said; it has listened to either name.
#pragma METAL fp contract(off)
#pragma clang fp contract(off)

#include "formats/float16.h"

using namespace metal;

// In front of a loop over an array that has to stay in registers.
#define BNB_UNROLL _Pragma("clang loop unroll(full)")

// The instances of kernel templates that the host asks for by name, one a line: BNB_KERNEL("name", kernel<arguments>); or one for each
// float dtype, whose tag is the last argument of the template: "name_f32", "name_f16", "name_bf16".
#define BNB_KERNEL(name, ...) template [[host_name(name)]] kernel decltype(__VA_ARGS__) __VA_ARGS__;
#define BNB_FLOAT_KERNELS(name, function)  \
  BNB_KERNEL(name "_f32", function<F32>)   \
  BNB_KERNEL(name "_f16", function<F16>)   \
  BNB_KERNEL(name "_bf16", function<BF16>)
#define BNB_FLOAT_KERNELS_WITH(name, function, ...)     \
  BNB_KERNEL(name "_f32", function<__VA_ARGS__, F32>)   \
  BNB_KERNEL(name "_f16", function<__VA_ARGS__, F16>)   \
  BNB_KERNEL(name "_bf16", function<__VA_ARGS__, BF16>)

namespace bnb {
namespace kernels {

using formats::bits_from_float;
using formats::float_from_bits;

// Constants of every kernel.
enum : uint { kInfinityBits = 0x7F800000u, kNanBits = 0x7FC00000u, kSignBit = 0x80000000u };
enum : int { kLanes = 32 };  // of a simdgroup

// Bits of |x|, which are ordered as magnitudes are; the canonical NaN, above infinity, for any NaN.
inline uint magnitude_bits(float x) {
  const uint bits = bits_from_float(x) & ~uint(kSignBit);
  return bits > kInfinityBits ? uint(kNanBits) : bits;
}

// A bit for each lane of the simdgroup, all of which take part.
inline uint ballot(bool x) { return uint(simd_vote::vote_t(simd_ballot(x))); }

inline long smaller(long a, long b) { return a < b ? a : b; }

inline int leading_zeros(ulong x) {
  const uint high = uint(x >> 32);
  return high != 0 ? int(clz(high)) : 32 + int(clz(uint(x)));
}

// An integer that is ordered as numbers are; below all others for NaN. A GPU that takes subnormal numbers for zero compares these right.
inline int order_of(float x) {
  const uint bits = bits_from_float(x), magnitude = bits & ~uint(kSignBit);
  if (magnitude > kInfinityBits) return int(0x80000000u);
  return bits == magnitude ? int(magnitude) : -int(magnitude);
}

}  // namespace kernels
}  // namespace bnb

// Kernels are in no namespace, so that their names are what the host asks for.
using namespace bnb;
using namespace bnb::kernels;

#endif  // BNB_METAL_KERNELS_COMMON_H_
