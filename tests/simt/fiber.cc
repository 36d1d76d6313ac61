// SPDX-License-Identifier: MIT
// Switching stacks by hand: ucontext would make a system call each time, and an emulated block switches millions of times.
#include "fiber.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

// simt_switch(save, load): pushes what a call must preserve, writes the stack pointer to *save, takes `load` for it, and pops.
extern "C" void simt_switch(void **save, void *load);

#if defined(__x86_64__)
asm(R"(
  .text
  .hidden simt_switch
  .globl simt_switch
  .type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size simt_switch, . - simt_switch
)");
namespace {
constexpr size_t kSavedWords = 6, kReturnWord = 6;  // registers, then the address that `ret` goes to
constexpr size_t kEntryWords = 8;                   // leaves the stack as a call would: 8 bytes beside a multiple of 16
}  // namespace
#elif defined(__aarch64__)
asm(R"(
  .text
  .hidden simt_switch
  .globl simt_switch
  .type simt_switch, @function
simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size simt_switch, . - simt_switch
)");
namespace {
constexpr size_t kSavedWords = 20, kReturnWord = 11;  // x30
constexpr size_t kEntryWords = 20;
}  // namespace
#else
#error "the emulator knows x86-64 and aarch64"
#endif

namespace simt {

char *make_stacks(size_t count) {
  void *all = mmap(nullptr, count * kStackStride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) std::abort();
  char *first = static_cast<char *>(all) + kStackGuard;
  for (size_t i = 0; i < count; ++i) {
    if (mprotect(first + i * kStackStride - kStackGuard, kStackGuard, PROT_NONE) != 0) std::abort();
  }
  return first;
}

void Fiber::reset(void (*entry)()) {
  void **top = reinterpret_cast<void **>(top_) - kEntryWords;
  std::memset(top, 0, kEntryWords * sizeof(void *));
  static_assert(kSavedWords <= kEntryWords && kReturnWord < kEntryWords, "what simt_switch pops is there");
  top[kReturnWord] = reinterpret_cast<void *>(entry);
  stopped_at_ = top;
}

void Fiber::resume() { simt_switch(&scheduler_at_, stopped_at_); }
void Fiber::pause() { simt_switch(&stopped_at_, scheduler_at_); }

}  // namespace simt
