// SPDX-License-Identifier: MIT
// A fiber: a stack of its own and where it stopped. One emulated GPU thread is one fiber.
#ifndef TESTS_SIMT_FIBER_H_
#define TESTS_SIMT_FIBER_H_

#include <cstddef>
#include <cstdint>

namespace simt {

inline constexpr size_t kStackBytes = 64 << 10;

class Fiber {
 public:
  // stack: kStackBytes of them, of which the highest `unused` are left alone.
  void set_stack(char *stack, size_t unused) { top_ = stack + kStackBytes - unused; }

  // The next resume() begins `entry`, which must never return. What ran on the stack before is forgotten.
  void reset(void (*entry)());

  void resume();   // from the scheduler into the fiber, until it pauses
  void pause();    // from the fiber back into the scheduler

 private:
  char *top_ = nullptr;
  void *stopped_at_ = nullptr;    // the fiber's stack pointer
  void *scheduler_at_ = nullptr;  // the scheduler's, while the fiber runs
};

// `count` stacks one behind the other, each above a page that is forbidden: stack i begins at i * kStackStride. Never freed.
inline constexpr size_t kStackGuard = 4096, kStackStride = kStackBytes + kStackGuard;
char *make_stacks(size_t count);

}  // namespace simt

#endif  // TESTS_SIMT_FIBER_H_
