// SPDX-License-Identifier: MIT
// Watches every access that kernels make to memory. In the checked libraries g++ calls these functions, meant for ThreadSanitizer,
// in front of each; in the others nobody does.
//
// Reported: an address in no allocation of the device, in no stack, in no shared memory and in no static data (out of bounds); and
// two threads at the same byte, one of them writing, without a barrier between (a race). Within a block a barrier of the block
// separates them, within a warp one of the warp does, too; blocks of a launch are separated by nothing. Atomic accesses race with
// others only.
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "grid.h"
#include "runtime.h"

namespace simt {
namespace {

// An access to a byte, in one word: when it was (0: never), whether it was atomic, which thread's, and when that was for its warp.
using Access = uint64_t;
constexpr int kTimeShift = 32, kAtomicShift = 31, kThreadShift = 21;
constexpr uint32_t kThreadMask = 0x3FF, kWarpMask = 0x1FFFFF;
static_assert(kMaxThreads <= kThreadMask + 1, "each has a number");

uint32_t time_of(Access access) { return uint32_t(access >> kTimeShift); }
bool is_atomic(Access access) { return (access >> kAtomicShift & 1) != 0; }
uint32_t thread_of(Access access) { return uint32_t(access >> kThreadShift) & kThreadMask; }
uint32_t warp_time_of(Access access) { return uint32_t(access) & kWarpMask; }
Access access_now(bool atomic) {
  return Access(times.now) << kTimeShift | Access(atomic) << kAtomicShift | Access(current->index) << kThreadShift |
         (warp_epoch(current->warp) & kWarpMask);
}

constexpr size_t kPageBytes = 4096;
struct ShadowPage {
  Access write[kPageBytes], read[kPageBytes];  // the last ones
};

// Kernels go to and fro between a few pages.
ShadowPage *shadow_of_page(uintptr_t number) {
  struct Recent {
    uintptr_t number;
    ShadowPage *page;
  };
  static Recent recent[64];
  static auto *const pages = new std::unordered_map<uintptr_t, ShadowPage *>;
  Recent &entry = recent[number % 64];
  if (!entry.page || entry.number != number) {
    ShadowPage *&page = (*pages)[number];
    if (!page) page = new ShadowPage();
    entry = {number, page};
  }
  return entry.page;
}

// The static data of this library: codebooks, and the shared memory of kernels, which is static here.
struct Image {
  uintptr_t begin = 0, end = 0;
  Image() {
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *self) {
          auto *image = static_cast<Image *>(self);
          const auto here = reinterpret_cast<uintptr_t>(&shadow_of_page);
          uintptr_t low = UINTPTR_MAX, high = 0;
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto &segment = info->dlpi_phdr[i];
            if (segment.p_type != PT_LOAD) continue;
            const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
            if (begin < low) low = begin;
            if (begin + segment.p_memsz > high) high = begin + segment.p_memsz;
          }
          if (here < low || here >= high) return 0;
          image->begin = low;
          image->end = high;
          return 1;
        },
        this);
  }
};

bool in_static_data(uintptr_t address) {
  static const Image image;
  return address >= image.begin && address < image.end;
}

// Whether the order of an earlier access and the present one is nobody's. shared: every block has a memory of its own.
bool races(Access earlier, Access now, bool shared) {
  const uint32_t time = time_of(earlier), thread = thread_of(earlier), mine = thread_of(now);
  if (time < times.launch || (is_atomic(earlier) && is_atomic(now))) return false;
  if (time < times.block) return !shared;
  if (thread == mine || time != times.now) return false;
  return thread / kWave != mine / kWave || warp_time_of(earlier) == warp_time_of(now);
}

// Most accesses are to what nobody touched since the last barrier: whether all of these are.
template <size_t kBytes>
bool settled(const Access *earlier, bool shared) {
  const uint32_t recent = shared ? times.block : times.launch, block = times.block, now = times.now;
  bool all = true;
  for (size_t i = 0; i < kBytes; ++i) {
    const uint32_t time = time_of(earlier[i]);
    all &= time < recent || (time >= block && time != now);
  }
  return all;
}

void check_races(const Access *earlier, size_t bytes, uintptr_t address, bool writes, bool wrote, Access now, bool shared) {
  for (size_t i = 0; i < bytes; ++i) {
    if (!races(earlier[i], now, shared)) continue;
    stop("race: thread %u %s %p, which thread %u of %s block %s without a barrier between", current->index, writes ? "writes" : "reads",
         reinterpret_cast<void *>(address + i), thread_of(earlier[i]), time_of(earlier[i]) < times.block ? "another" : "this",
         wrote ? "wrote" : "read");
  }
}

template <size_t kBytes>
void note(uintptr_t address, bool write, Access now, bool shared) {
  ShadowPage &page = *shadow_of_page(address / kPageBytes);
  const size_t at = address % kPageBytes;
  Access *const written = page.write + at, *const read = page.read + at;
  if (!settled<kBytes>(written, shared)) check_races(written, kBytes, address, write, true, now, shared);
  if (write && !settled<kBytes>(read, shared)) check_races(read, kBytes, address, write, false, now, shared);
  Access *const mine = write ? written : read;
  for (size_t i = 0; i < kBytes; ++i) mine[i] = now;
}

// SIMT_RACES=0 leaves accesses out of bounds to be watched. A fuzzer hands over codes that do not ascend, which no operation of a GPU can
// refuse: threads then fill their tables in no order, and nothing that is read from them makes sense, or lies elsewhere.
bool races_are_watched() {
  static const bool watched = [] {
    const char *text = std::getenv("SIMT_RACES");
    return !text || std::strcmp(text, "0") != 0;
  }();
  return watched;
}

// Whether races at `pointer` are to be watched, and whether it is shared memory. Ends the launch where nothing is.
bool is_watched(void *pointer, size_t bytes, bool write, bool *shared) {
  if (!current) return false;  // the host's part of a launch
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Home home = home_of(address);
  if (home == Home::kMachine || (home == Home::kArguments && !write)) return false;
  *shared = home == Home::kShared || in_static_data(address);
  if (!*shared && !in_allocation(address, bytes)) {
    stop("out of bounds: thread %u %s %zu bytes at %p, which is not in an allocation of the device", current->index,
         write ? "writes" : "reads", bytes, pointer);
  }
  return races_are_watched();
}

template <size_t kBytes>
void access(void *pointer, bool write, bool atomic = false) {
  bool shared = false;
  if (!is_watched(pointer, kBytes, write, &shared)) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Access now = access_now(atomic);
  if (address % kPageBytes + kBytes <= kPageBytes) return note<kBytes>(address, write, now, shared);
  for (size_t i = 0; i < kBytes; ++i) note<1>(address + i, write, now, shared);
}

void access_range(void *pointer, size_t bytes, bool write) {
  bool shared = false;
  if (!is_watched(pointer, bytes, write, &shared)) return;
  const Access now = access_now(false);
  for (size_t i = 0; i < bytes; ++i) note<1>(reinterpret_cast<uintptr_t>(pointer) + i, write, now, shared);
}

}  // namespace
}  // namespace simt

#define SIMT_ACCESS(bytes)                                                                                   \
  void __tsan_read##bytes(void *p) { simt::access<bytes>(p, false); }                                        \
  void __tsan_write##bytes(void *p) { simt::access<bytes>(p, true); }                                        \
  void __tsan_unaligned_read##bytes(void *p) { simt::access<bytes>(p, false); }                              \
  void __tsan_unaligned_write##bytes(void *p) { simt::access<bytes>(p, true); }

#define SIMT_ATOMICS(bits, T)                                                                                \
  T __tsan_atomic##bits##_load(const volatile T *p, int) {                                                   \
    simt::access<sizeof(T)>(const_cast<T *>(p), false, true);                                                \
    return __atomic_load_n(p, __ATOMIC_RELAXED);                                                             \
  }                                                                                                          \
  void __tsan_atomic##bits##_store(volatile T *p, T x, int) {                                                \
    simt::access<sizeof(T)>(const_cast<T *>(p), true, true);                                                 \
    __atomic_store_n(p, x, __ATOMIC_RELAXED);                                                                \
  }                                                                                                          \
  T __tsan_atomic##bits##_fetch_add(volatile T *p, T x, int) {                                               \
    simt::access<sizeof(T)>(const_cast<T *>(p), true, true);                                                 \
    return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);                                                       \
  }                                                                                                          \
  T __tsan_atomic##bits##_fetch_or(volatile T *p, T x, int) {                                                \
    simt::access<sizeof(T)>(const_cast<T *>(p), true, true);                                                 \
    return __atomic_fetch_or(p, x, __ATOMIC_RELAXED);                                                        \
  }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
SIMT_ACCESS(1)
SIMT_ACCESS(2)
SIMT_ACCESS(4)
SIMT_ACCESS(8)
SIMT_ACCESS(16)
void __tsan_read_range(void *p, size_t bytes) { simt::access_range(p, bytes, false); }
void __tsan_write_range(void *p, size_t bytes) { simt::access_range(p, bytes, true); }
void __tsan_vptr_update(void **, void *) {}
SIMT_ATOMICS(8, uint8_t)
SIMT_ATOMICS(32, uint32_t)
SIMT_ATOMICS(64, uint64_t)
}
