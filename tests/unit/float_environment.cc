// SPDX-License-Identifier: MIT
// Callers may flush subnormals, round upwards or trap on what they like: results stay the same, and so does their
// environment.
#include <cfenv>
#include <cstdint>

#include "check.h"
#include "conformance/samples.h"
#include "prepared.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace {

#if defined(__x86_64__)
constexpr uint32_t kStatus = 0x3F;  // the flags that arithmetic raises
uint32_t control() { return _mm_getcsr() & ~kStatus; }
void set_control(uint32_t value) { _mm_setcsr(value); }
constexpr struct {
  const char *name;
  uint32_t bits;
} kStates[] = {{"flush to zero", 0x1F80 | 0x8000}, {"subnormals are zero", 0x1F80 | 0x0040},
               {"both", 0x1F80 | 0x8040},          {"round up", 0x1F80 | 0x4000},
               {"round down", 0x1F80 | 0x2000},    {"round to zero and flush", 0x1F80 | 0xE040},
               {"trap on everything", 0x0000},     {"trap on invalid and round up", 0x1F00 | 0x4000}};
#elif defined(__aarch64__)
uint32_t control() {
  uint64_t value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return uint32_t(value);
}
void set_control(uint32_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t(value))); }
constexpr struct {
  const char *name;
  uint32_t bits;
} kStates[] = {{"flush to zero", 1u << 24}, {"flush fp16 to zero", 1u << 19},
               {"default NaN", 1u << 25},   {"round up", 1u << 22},
               {"round down", 2u << 22},    {"round to zero and flush", (3u << 22) | (1u << 24)}};
#endif

void check_state(uint32_t state, int64_t n) {
  const uint32_t before = control();
  conformance::Random random(7);
  for (const conformance::Sample &sample : conformance::samples(n, random)) {
    unit::Prepared plain(sample), strange(sample);
    CHECK(plain.call() == BNB_OK);
    set_control(state);
    const uint32_t entered = control();
    const bnb_status status = strange.call();
    const uint32_t left = control();
    set_control(before);
    CHECK_THAT(status == BNB_OK, "%s: %s", sample.function, bnb_last_error());
    CHECK_THAT(left == entered, "%s changed the caller's environment from 0x%x to 0x%x", sample.function, entered,
               left);
    CHECK_THAT(strange.outputs() == plain.outputs(), "%s gives other results", sample.function);
  }
}

}  // namespace

int main() {
#if defined(__x86_64__) || defined(__aarch64__)
  for (const auto &state : kStates) {
    for (int32_t i = 0; const char *isa = bnb_isa_name(i); ++i) {
      if (bnb_set_isa(isa) != BNB_OK) continue;
      bnb_set_num_threads(1);
      unit::run(state.name, [&] { check_state(state.bits, 3000); });
    }
    bnb_set_isa(nullptr);
    bnb_set_num_threads(3);  // helpers have an environment of their own
    unit::run(state.name, [&] { check_state(state.bits, 150000); });
  }
#else
  unit::skip("float environment", "not known how to change it on this processor");
#endif
  return unit::summary();
}
