// SPDX-License-Identifier: MIT
// Managed memory: what the host has as addresses and a device as a buffer. Callers hold the address; here is which buffer is behind it.
#ifndef BNB_METAL_MANAGED_H_
#define BNB_METAL_MANAGED_H_

#include <cstddef>
#include <cstdint>

namespace bnb::metal {

struct ManagedRange {
  uintptr_t begin, end;
  int32_t device;
  void *buffer;
};

// False if there is no memory to remember it.
bool remember_managed(const ManagedRange &range);

// The range that an address is in. Without managed memory in the process nothing is locked.
bool find_managed(const void *address, ManagedRange *range);

// Takes the range that begins at an address out of the list.
bool forget_managed(const void *begin, ManagedRange *range);

}  // namespace bnb::metal

#endif  // BNB_METAL_MANAGED_H_
