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
BNB_INLINE void prefetch(const void *p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(static_cast<const char *>(p) + i, 0, 2);
}

// Calls full(i) for the whole vectors of `count` items, and some(i, left) for what is left. On the way it asks for `next`, of
// kItemSize bytes an item: what comes after that many more items, or the items themselves.
template <int64_t kItemSize, typename Full, typename Some>
BNB_INLINE void for_vectors(const void *next, int64_t count, const Full &full, const Some &some) {
  const char *wanted = static_cast<const char *>(next);
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    prefetch(wanted + i * kItemSize, 4 * kLanes * kItemSize);
    for (int j = 0; j < 4; ++j) full(i + j * kLanes);
  }
  for (; i + kLanes <= count; i += kLanes) full(i);
  if (i < count) some(i, count - i);
}

// How far ahead to prefetch while items up to `end` of n are worked on; 0 if that would leave the array.
template <int64_t kItemSize>
BNB_INLINE int64_t bytes_ahead(int64_t end, int64_t n) {
  return n - end >= kElementsTogether ? kElementsTogether * kItemSize : 0;
}
template <typename Tag>
BNB_INLINE int64_t bytes_ahead(int64_t end, int64_t n) {
  return bytes_ahead<int64_t(sizeof(typename Tag::Storage))>(end, n);
}

// The parts of [begin, end) that lie in one block each: for (BlockParts part(...); part.more(); part.next()). A loop, not a call
// with a lambda for its body: gcc would make that a function, whose constants are loaded again for every block.
class BlockParts {
 public:
  BNB_INLINE BlockParts(int64_t begin, int64_t end, int64_t blocksize)
      : block(begin / blocksize), first(begin), end_(end), blocksize_(blocksize) {
    const int64_t left = blocksize - begin % blocksize;
    last = end - begin < left ? end : begin + left;
  }
  BNB_INLINE bool more() const { return first < end_; }
  BNB_INLINE void next() {
    ++block;
    first = last;
    last = end_ - first < blocksize_ ? end_ : first + blocksize_;
  }
  BNB_INLINE int64_t count() const { return last - first; }

  int64_t block, first, last;  // elements [first, last) are in this block

 private:
  int64_t end_, blocksize_;
};

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
BNB_INLINE Rare make_rare(float absmax) {
  return {splat(absmax), absmax == 0.0f, absmax == formats::float_from_bits(kInfinityBits)};
}

// What its multiplier, such as 1 / absmax, says about a block.
BNB_INLINE bool is_ordinary(float scale) { return scale > 0.0f && scale < formats::float_from_bits(kInfinityBits); }

// Calls body(normalise), where normalise(x) is x' in a block with this absmax (or, for FP8, this scale).
template <typename Body>
BNB_INLINE void with_normaliser(float absmax, const Body &body) {
  const float reciprocal = 1.0f / absmax;
  if (is_ordinary(reciprocal)) {
    body(Ordinary{splat(reciprocal)});
  } else {
    body(make_rare(absmax));
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_BLOCKS_H_
