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

// The last accesses to a byte.
struct Access {
  int64_t launch = 0;
  uint32_t block = 0, epoch = 0, warp_epoch = 0;
  uint16_t thread = 0;
  bool atomic = false;
};
struct Shadow {
  Access write, read;
};

constexpr size_t kPageBytes = 4096;
struct ShadowPage {
  Shadow bytes[kPageBytes];
};

Shadow &shadow_of(uintptr_t address) {
  static auto *const pages = new std::unordered_map<uintptr_t, ShadowPage *>;
  static uintptr_t last = 0;
  static ShadowPage *last_page = nullptr;
  const uintptr_t number = address / kPageBytes;
  if (!last_page || number != last) {
    ShadowPage *&page = (*pages)[number];
    if (!page) page = new ShadowPage;
    last = number;
    last_page = page;
  }
  return last_page->bytes[address % kPageBytes];
}

// The static data of this library: codebooks, and the shared memory of kernels, which is static here.
struct Image {
  uintptr_t begin = 0, end = 0;
  Image() {
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *self) {
          auto *image = static_cast<Image *>(self);
          const auto here = reinterpret_cast<uintptr_t>(&shadow_of);
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
bool races(const Access &earlier, const Access &now, bool shared) {
  if (earlier.launch != now.launch || (earlier.atomic && now.atomic)) return false;
  if (earlier.block != now.block) return !shared;
  if (earlier.thread == now.thread || earlier.epoch != now.epoch) return false;
  return earlier.thread / kWave != now.thread / kWave || earlier.warp_epoch == now.warp_epoch;
}

void check_race(uintptr_t address, size_t bytes, bool write, bool atomic, bool shared) {
  const Access now{launch_number(), position.block,       block_epoch(), warp_epoch(current->warp),
                   uint16_t(current->index), atomic};
  for (size_t i = 0; i < bytes; ++i) {
    Shadow &shadow = shadow_of(address + i);
    if (races(shadow.write, now, shared)) {
      stop("race: thread %u %s %p, which thread %u of block %u wrote without a barrier between", current->index,
           write ? "writes" : "reads", reinterpret_cast<void *>(address + i), shadow.write.thread, shadow.write.block);
    }
    if (write && races(shadow.read, now, shared)) {
      stop("race: thread %u writes %p, which thread %u of block %u read without a barrier between", current->index,
           reinterpret_cast<void *>(address + i), shadow.read.thread, shadow.read.block);
    }
    (write ? shadow.write : shadow.read) = now;
  }
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

void access(void *pointer, size_t bytes, bool write, bool atomic = false) {
  if (!current) return;  // the host's part of a launch
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (of_the_machine(address)) return;
  const bool shared = in_shared_memory(address) || in_static_data(address);
  if (!shared) {
    if (!write && among_arguments(address)) return;
    if (!in_allocation(address, bytes)) {
      stop("out of bounds: thread %u %s %zu bytes at %p, which is not in an allocation of the device",
           current->index, write ? "writes" : "reads", bytes, pointer);
    }
  }
  if (races_are_watched()) check_race(address, bytes, write, atomic, shared);
}

}  // namespace
}  // namespace simt

#define SIMT_ACCESS(bytes)                                                                                   \
  void __tsan_read##bytes(void *p) { simt::access(p, bytes, false); }                                        \
  void __tsan_write##bytes(void *p) { simt::access(p, bytes, true); }                                        \
  void __tsan_unaligned_read##bytes(void *p) { simt::access(p, bytes, false); }                              \
  void __tsan_unaligned_write##bytes(void *p) { simt::access(p, bytes, true); }

#define SIMT_ATOMICS(bits, T)                                                                                \
  T __tsan_atomic##bits##_load(const volatile T *p, int) {                                                   \
    simt::access(const_cast<T *>(p), sizeof(T), false, true);                                                \
    return __atomic_load_n(p, __ATOMIC_RELAXED);                                                             \
  }                                                                                                          \
  void __tsan_atomic##bits##_store(volatile T *p, T x, int) {                                                \
    simt::access(const_cast<T *>(p), sizeof(T), true, true);                                                 \
    __atomic_store_n(p, x, __ATOMIC_RELAXED);                                                                \
  }                                                                                                          \
  T __tsan_atomic##bits##_fetch_add(volatile T *p, T x, int) {                                               \
    simt::access(const_cast<T *>(p), sizeof(T), true, true);                                                 \
    return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);                                                       \
  }                                                                                                          \
  T __tsan_atomic##bits##_fetch_or(volatile T *p, T x, int) {                                                \
    simt::access(const_cast<T *>(p), sizeof(T), true, true);                                                 \
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
void __tsan_read_range(void *p, size_t bytes) { simt::access(p, bytes, false); }
void __tsan_write_range(void *p, size_t bytes) { simt::access(p, bytes, true); }
void __tsan_vptr_update(void **, void *) {}
SIMT_ATOMICS(8, uint8_t)
SIMT_ATOMICS(32, uint32_t)
SIMT_ATOMICS(64, uint64_t)
}
