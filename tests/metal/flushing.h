// SPDX-License-Identifier: MIT
// Makes the processor take subnormal numbers for zero, as operands and as results, for as long as an object lives.
#ifndef TESTS_METAL_FLUSHING_H_
#define TESTS_METAL_FLUSHING_H_

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "metal/kernels.h"

namespace metal_host {

class Flushing {
 public:
  explicit Flushing(bool flush) {
    flushes_subnormals = flush;
#if defined(__x86_64__)
    before_ = _mm_getcsr();
    if (flush) _mm_setcsr(unsigned(before_) | 0x8040u);
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    if (flush) asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t(1) << 24)));
#endif
  }
  ~Flushing() {
    flushes_subnormals = false;
#if defined(__x86_64__)
    _mm_setcsr(unsigned(before_));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" : : "r"(before_));
#endif
  }
  Flushing(const Flushing &) = delete;
  Flushing &operator=(const Flushing &) = delete;

 private:
  uint64_t before_ = 0;
};

}  // namespace metal_host

#endif  // TESTS_METAL_FLUSHING_H_
