// SPDX-License-Identifier: MIT
// Walking through blocks, and x' of their elements (the rule of reference/normalise.h) in vectors.
#ifndef BNB_CPU_KERNELS_BLOCKS_H_
#define BNB_CPU_KERNELS_BLOCKS_H_

#include BNB_SIMD_HEADER
#include "cpu/together.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr uint32_t kInfinityBits = 0x7F800000u, kNanBits = 0x7FC00000u, kMagnitudeBits = 0x7FFFFFFFu;

// Asks for the lines of [p, p + bytes), at any address. While one piece is turned into codes from the cache, the next one comes:
// the processor sees no misses then that would tell it to fetch ahead, and it never does beyond a page.
BNB_INLINE void prefetch(const char *p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(p + i, 0, 2);
}

// Calls body(block, first, last) for each part [first, last) of [begin, end) that lies in one block.
template <typename Body>
BNB_INLINE void for_blocks(int64_t begin, int64_t end, int64_t blocksize, const Body &body) {
  if (begin >= end) return;
  int64_t block = begin / blocksize, left = blocksize - begin % blocksize;
  for (int64_t first = begin; first < end; ++block) {
    const int64_t last = end - first < left ? end : first + left;
    body(block, first, last);
    first = last;
    left = blocksize;
  }
}

// Nearly every block: absmax is finite and so is its reciprocal.
struct Ordinary {
  Floats reciprocal;
  BNB_INLINE Floats operator()(Floats x) const { return mul(x, reciprocal); }
};

// Blocks of zeros, of tiny numbers, and with infinity or NaN.
struct Rare {
  Floats absmax;
  bool zero, infinite;
  BNB_INLINE Floats operator()(Floats x) const {
    if (zero) return splat(0.0f);
    if (infinite) return select(equal(abs(x), absmax), copy_sign(splat(1.0f), x), splat(0.0f));
    return div(x, absmax);
  }
};

// Calls body(normalise), where normalise(x) is x' in a block with this absmax (or, for FP8, this scale).
template <typename Body>
BNB_INLINE void with_normaliser(float absmax, const Body &body) {
  const float reciprocal = 1.0f / absmax;
  const float infinity = formats::float_from_bits(kInfinityBits);
  if (reciprocal > 0.0f && reciprocal < infinity) {
    body(Ordinary{splat(reciprocal)});
  } else {
    body(Rare{splat(absmax), absmax == 0.0f, absmax == infinity});
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_BLOCKS_H_
