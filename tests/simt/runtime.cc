// SPDX-License-Identifier: MIT
// Memory of the emulated device: every allocation has pages of its own that end where the next page is forbidden.
#include "runtime.h"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>

namespace simt {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // of addresses that cudaMalloc returns
constexpr size_t kMostBytes = size_t(64) << 30;

struct Allocation {
  char *pages;  // with a forbidden page on either side
  size_t page_bytes, bytes;
  bool managed;
};

struct Extent {
  uintptr_t begin;
  size_t bytes;
};
constexpr size_t kRecent = 64;

struct Registry {
  std::recursive_mutex mutex;
  Extent recent[kRecent] = {};
  std::map<uintptr_t, Allocation> allocations;  // by the address that callers got
  int open = 0;
};

Registry &registry() {
  static Registry *const instance = new Registry;
  return *instance;
}

using Guard = std::lock_guard<std::recursive_mutex>;

size_t round_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

void protect_all(int protection) {
  for (const auto &[address, allocation] : registry().allocations) {
    if (!allocation.managed) mprotect(allocation.pages, allocation.page_bytes, protection);
  }
}

const std::pair<const uintptr_t, Allocation> *find(uintptr_t address) {
  auto &all = registry().allocations;
  auto after = all.upper_bound(address);
  if (after == all.begin()) return nullptr;
  --after;
  return address - after->first < after->second.bytes ? &*after : nullptr;
}

simtError_t allocate(void **data, size_t bytes, bool managed) {
  if (bytes > kMostBytes) return simtErrorMemoryAllocation;
  const size_t padded = round_up(bytes, kAlignment), page_bytes = round_up(padded, kPage);
  void *all = mmap(nullptr, page_bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return simtErrorMemoryAllocation;
  const Guard guard(registry().mutex);
  const Allocation allocation{static_cast<char *>(all) + kPage, page_bytes, bytes, managed};
  if (managed || registry().open) mprotect(allocation.pages, page_bytes, PROT_READ | PROT_WRITE);
  char *address = allocation.pages + (page_bytes - padded);
  registry().allocations.emplace(reinterpret_cast<uintptr_t>(address), allocation);
  *data = address;
  return simtSuccess;
}

}  // namespace

// The registry stays locked meanwhile, so that no other thread closes what this one opened.
DeviceMemoryOpen::DeviceMemoryOpen() {
  registry().mutex.lock();
  if (registry().open++ == 0) protect_all(PROT_READ | PROT_WRITE);
}
DeviceMemoryOpen::~DeviceMemoryOpen() {
  if (--registry().open == 0) protect_all(PROT_NONE);
  registry().mutex.unlock();
}

Memory kind_of(const void *address) {
  const Guard guard(registry().mutex);
  const auto *found = find(reinterpret_cast<uintptr_t>(address));
  return !found ? Memory::kHost : found->second.managed ? Memory::kManaged : Memory::kDevice;
}

// Every access of a checked kernel asks this: the last answers are kept, each at its page's place, until memory is freed.
bool in_allocation(uintptr_t address, size_t bytes) {
  const Guard guard(registry().mutex);
  Extent &extent = registry().recent[address / kPage % kRecent];
  if (address - extent.begin >= extent.bytes) {
    const auto *found = find(address);
    if (!found) return false;
    extent = {found->first, found->second.bytes};
  }
  return bytes <= extent.bytes - (address - extent.begin);
}

}  // namespace simt

using simt::registry;

simtError_t simtGetLastError() { return simtSuccess; }
const char *simtGetErrorString(simtError_t error) {
  return error == simtErrorMemoryAllocation ? "out of memory" : error == simtSuccess ? "no error" : "invalid value";
}
simtError_t simtGetDevice(int *device) {
  *device = 0;
  return simtSuccess;
}
simtError_t simtSetDevice(int device) { return device == 0 ? simtSuccess : simtErrorInvalidValue; }
simtError_t simtGetDeviceCount(int *count) {
  *count = 1;
  return simtSuccess;
}
simtError_t simtMalloc(void **data, size_t bytes) { return simt::allocate(data, bytes, false); }
simtError_t simtMallocManaged(void **data, size_t bytes, unsigned) { return simt::allocate(data, bytes, true); }
simtError_t simtFree(void *data) {
  const simt::Guard guard(registry().mutex);
  const auto found = registry().allocations.find(reinterpret_cast<uintptr_t>(data));
  if (found == registry().allocations.end()) return simtErrorInvalidValue;
  munmap(found->second.pages - simt::kPage, found->second.page_bytes + 2 * simt::kPage);
  registry().allocations.erase(found);
  std::memset(registry().recent, 0, sizeof registry().recent);
  return simtSuccess;
}
simtError_t simtMallocAsync(void **data, size_t bytes, simtStream_t) { return simtMalloc(data, bytes); }
simtError_t simtFreeAsync(void *data, simtStream_t) { return simtFree(data); }
simtError_t simtMemcpyAsync(void *to, const void *from, size_t bytes, simtMemcpyKind, simtStream_t) {
  const simt::DeviceMemoryOpen open;
  std::memmove(to, from, bytes);
  return simtSuccess;
}
simtError_t simtMemsetAsync(void *data, int value, size_t bytes, simtStream_t) {
  const simt::DeviceMemoryOpen open;
  std::memset(data, value, bytes);
  return simtSuccess;
}
simtError_t simtStreamSynchronize(simtStream_t) { return simtSuccess; }
