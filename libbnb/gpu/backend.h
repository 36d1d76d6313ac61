// SPDX-License-Identifier: MIT
// The table of a GPU's backend: the same for all of them but for its name and the device types that are its own.
#ifndef BNB_GPU_BACKEND_H_
#define BNB_GPU_BACKEND_H_

#include "gpu/device.h"
#include "gpu/memory.h"
#include "gpu/ops.h"

namespace bnb::gpu {

constexpr Backend backend(const char *name, bool (*owns)(DLDeviceType)) {
  return {
      name, owns, device_count,
#define BNB_OP(op, Args) op,
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP
      allocate, allocate_managed, release, copy, synchronize, prefetch,
      nullptr, home_of, borrow, give_back,
  };
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_BACKEND_H_
