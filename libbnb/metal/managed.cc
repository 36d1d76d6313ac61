// SPDX-License-Identifier: MIT
// The list of managed memory, in the order of addresses.
#include "metal/managed.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace bnb::metal {
namespace {

std::mutex mutex;
std::atomic<size_t> count{0};  // changes under the mutex
ManagedRange *list;
size_t capacity;

// The first range that ends behind an address.
size_t place_of(uintptr_t address) {
  size_t low = 0, high = count.load(std::memory_order_relaxed);
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (list[middle].end <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

bool grow() {
  const size_t more = capacity ? 2 * capacity : 16;
  void *longer = std::realloc(list, more * sizeof(ManagedRange));
  if (!longer) return false;
  list = static_cast<ManagedRange *>(longer);
  capacity = more;
  return true;
}

}  // namespace

bool remember_managed(const ManagedRange &range) {
  const std::lock_guard<std::mutex> lock(mutex);
  const size_t known = count.load(std::memory_order_relaxed);
  if (known == capacity && !grow()) return false;
  ManagedRange *const at = list + place_of(range.begin);
  std::memmove(at + 1, at, size_t(list + known - at) * sizeof(ManagedRange));
  *at = range;
  count.store(known + 1, std::memory_order_release);
  return true;
}

bool find_managed(const void *address, ManagedRange *range) {
  if (count.load(std::memory_order_acquire) == 0) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  const uintptr_t wanted = reinterpret_cast<uintptr_t>(address);
  const size_t i = place_of(wanted);
  if (i == count.load(std::memory_order_relaxed) || list[i].begin > wanted) return false;
  *range = list[i];
  return true;
}

bool forget_managed(const void *begin, ManagedRange *range) {
  if (count.load(std::memory_order_acquire) == 0) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  const uintptr_t wanted = reinterpret_cast<uintptr_t>(begin);
  const size_t i = place_of(wanted), known = count.load(std::memory_order_relaxed);
  if (i == known || list[i].begin != wanted) return false;
  *range = list[i];
  std::memmove(list + i, list + i + 1, (known - i - 1) * sizeof(ManagedRange));
  count.store(known - 1, std::memory_order_release);
  return true;
}

}  // namespace bnb::metal
