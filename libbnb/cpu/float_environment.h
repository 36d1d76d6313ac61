// SPDX-License-Identifier: MIT
// Puts a thread into the IEEE default environment (nearest even, subnormals kept) and back: callers may have set others.
#ifndef BNB_CPU_FLOAT_ENVIRONMENT_H_
#define BNB_CPU_FLOAT_ENVIRONMENT_H_

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace bnb::cpu {

class DefaultFloatEnvironment {
 public:
#if defined(__x86_64__) || defined(_M_X64)
  DefaultFloatEnvironment() : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
  }
  ~DefaultFloatEnvironment() {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(saved_);
  }

 private:
  static constexpr uint32_t kDefault = 0x1F80, kFlags = 0x3F;
  uint32_t saved_;
#elif defined(__aarch64__) && defined(__GNUC__)
  DefaultFloatEnvironment() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_) __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t(0)));
  }
  ~DefaultFloatEnvironment() {
    if (saved_) __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
  }

 private:
  uint64_t saved_ = 0;
#else
  DefaultFloatEnvironment() {}
  ~DefaultFloatEnvironment() {}

 public:
#endif
  DefaultFloatEnvironment(const DefaultFloatEnvironment &) = delete;
  DefaultFloatEnvironment &operator=(const DefaultFloatEnvironment &) = delete;
};

}  // namespace bnb::cpu

#endif  // BNB_CPU_FLOAT_ENVIRONMENT_H_
