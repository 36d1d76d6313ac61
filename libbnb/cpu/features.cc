// SPDX-License-Identifier: MIT
// CPU feature detection: CPUID and XGETBV on x86, the auxiliary vector on aarch64 Linux.
#include "cpu/features.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bnb::cpu {

#if defined(__x86_64__) || defined(_M_X64)
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, int(leaf), int(subleaf));
  r = {uint32_t(out[0]), uint32_t(out[1]), uint32_t(out[2]), uint32_t(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// The register state that the operating system saves: a CPU feature without it must not be used.
uint64_t saved_state() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t(high) << 32) | low;
#endif
}

// Tile registers are large: Linux gives them to processes that ask, once, for all of their threads.
bool may_use_tiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return true;
#endif
}

constexpr bool has(uint32_t word, int bit) { return (word >> bit) & 1; }

}  // namespace

uint32_t detect_features() {
  const Registers leaf1 = cpuid(1, 0);
  if (!has(leaf1.ecx, 27)) return 0;  // no OSXSAVE
  const uint64_t state = saved_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xE6) == 0xE6, tiles = (state & 0x60000) == 0x60000;
  const Registers leaf7 = cpuid(7, 0), leaf7_1 = cpuid(7, 1);

  uint32_t found = 0;
  if (ymm) {
    if (has(leaf7.ebx, 5)) found |= kAVX2;
    if (has(leaf1.ecx, 12)) found |= kFMA;
    if (has(leaf1.ecx, 29)) found |= kF16C;
    if (has(leaf7.ebx, 8)) found |= kBMI2;
  }
  if (zmm && has(leaf7.ebx, 16) && has(leaf7.ebx, 30) && has(leaf7.ebx, 17) && has(leaf7.ebx, 31) && has(leaf7.ebx, 28)) {
    found |= kAVX512;
    if (has(leaf7.ecx, 1)) found |= kAVX512VBMI;
    if (has(leaf7.ecx, 11)) found |= kAVX512VNNI;
    if (has(leaf7_1.eax, 5)) found |= kAVX512BF16;
  }
  if (tiles && has(leaf7.edx, 24) && may_use_tiles()) {
    if (has(leaf7.edx, 22)) found |= kAMXBF16;
    if (has(leaf7.edx, 25)) found |= kAMXINT8;
  }
  return found;
}

#elif defined(__aarch64__)

uint32_t detect_features() {
  uint32_t found = kNEON;  // part of the base architecture
#if defined(__linux__)
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  if (hwcap & (1ul << 20)) found |= kDotProd;
  if (hwcap2 & (1ul << 13)) found |= kI8MM;
  if (hwcap2 & (1ul << 14)) found |= kBF16;
#elif defined(__APPLE__)
  found |= kDotProd;  // every Apple Silicon Mac
#endif
  return found;
}

#else

uint32_t detect_features() { return 0; }

#endif

}  // namespace bnb::cpu
