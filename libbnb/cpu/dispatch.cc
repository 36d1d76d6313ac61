// SPDX-License-Identifier: MIT
// The list of instruction sets (isa.inc, written by cpu/meson.build) and the choice among them, made at first use.
#include "cpu/dispatch.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/status.h"
#include "cpu/features.h"

namespace bnb {
namespace reference {
extern const cpu::Kernels kKernels;
}
namespace cpu {

#define BNB_ISA(name, required) \
  namespace name {              \
  extern const Kernels kKernels; \
  }
#include "cpu/isa.inc"
#undef BNB_ISA

namespace {

const Isa kIsas[] = {
    {"reference", 0, &reference::kKernels},
#define BNB_ISA(name, required) {#name, required, &name::kKernels},
#include "cpu/isa.inc"
#undef BNB_ISA
};
constexpr int kCount = int(sizeof kIsas / sizeof kIsas[0]);

struct Choice {
  const Isa *isa;  // NULL: BNB_CPU_ISA names no instruction set
  char reason[160];
};

bool available(const Isa &isa) {
  static const uint32_t features = detect_features();
  return (features & isa.required) == isa.required;
}

int find(const char *name) {
  for (int i = 0; i < kCount; ++i) {
    if (std::strcmp(kIsas[i].name, name) == 0) return i;
  }
  return -1;
}

Choice choose() {
  Choice choice{};
  const char *cap = std::getenv("BNB_CPU_ISA");
  int last = kCount - 1;
  if (cap && *cap) {
    last = find(cap);
    if (last < 0) {
      std::snprintf(choice.reason, sizeof choice.reason, "BNB_CPU_ISA=%.32s names no instruction set of this library", cap);
      return choice;
    }
  }
  const int highest = last;
  while (!available(kIsas[last])) --last;  // "reference" always is
  choice.isa = &kIsas[last];
  if (cap && *cap) {
    std::snprintf(choice.reason, sizeof choice.reason, "the most capable one this CPU runs, up to BNB_CPU_ISA=%s", cap);
  } else if (last == highest) {
    std::snprintf(choice.reason, sizeof choice.reason, "the most capable one in this library");
  } else {
    std::snprintf(choice.reason, sizeof choice.reason, "the most capable one this CPU runs; it lacks what %s needs",
                  kIsas[last + 1].name);
  }
  return choice;
}

const Choice &default_choice() {
  static const Choice choice = choose();
  return choice;
}

std::atomic<const Isa *> forced{nullptr};

const Isa *active_isa() {
  const Isa *isa = forced.load(std::memory_order_acquire);
  return isa ? isa : default_choice().isa;
}

}  // namespace

const Isa *isa_at(int32_t index) { return index >= 0 && index < kCount ? &kIsas[index] : nullptr; }

const Kernels *active_kernels() {
  if (const Isa *isa = active_isa()) return isa->kernels;
  fail(BNB_ERROR_INVALID_ARGUMENT, "%s", default_choice().reason);
  return nullptr;
}

}  // namespace cpu
}  // namespace bnb

using namespace bnb;

const char *bnb_isa_name(int32_t index) {
  const cpu::Isa *isa = cpu::isa_at(index);
  return isa ? isa->name : nullptr;
}

int32_t bnb_isa_available(const char *name) {
  const int index = name ? cpu::find(name) : -1;
  return index >= 0 && cpu::available(cpu::kIsas[index]);
}

const char *bnb_isa_active(void) {
  const cpu::Isa *isa = cpu::active_isa();
  return isa ? isa->name : nullptr;
}

const char *bnb_isa_reason(void) {
  return cpu::forced.load(std::memory_order_acquire) ? "set by bnb_set_isa" : cpu::default_choice().reason;
}

bnb_status bnb_set_isa(const char *name) {
  if (!name) {
    cpu::forced.store(nullptr, std::memory_order_release);
    return BNB_OK;
  }
  const int index = cpu::find(name);
  if (index < 0) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_set_isa: name is \"%.32s\", which is no instruction set of this library",
                name);
  }
  if (!cpu::available(cpu::kIsas[index])) {
    return fail(BNB_ERROR_UNSUPPORTED, "bnb_set_isa: this CPU does not run \"%s\"", name);
  }
  cpu::forced.store(&cpu::kIsas[index], std::memory_order_release);
  return BNB_OK;
}
