// SPDX-License-Identifier: MIT
// Launching kernels: on the queue's device and stream, errors as a status, never waiting.
#ifndef BNB_GPU_LAUNCH_H_
#define BNB_GPU_LAUNCH_H_

#include "core/backend.h"
#include "gpu/compat.h"
#include "gpu/device.h"
#include "gpu/sdk.h"
#include "gpu/workspace.h"

namespace bnb::gpu {

struct Grid {
  int64_t blocks;
  int threads;  // a multiple of 64, so that warps are whole on every device
  size_t shared_bytes = 0;
};

constexpr int64_t kMaxBlocks = INT32_MAX;

// kernel(args...) on every thread of the grid. No blocks is no launch, nor is a query of the workspace.
template <typename... Parameters, typename... Args>
bnb_status launch(void (*kernel)(Parameters...), const Grid &grid, const Queue &queue, const Args &...args) {
  if (grid.blocks == 0 || only_asked()) return BNB_OK;
  const DeviceScope device(queue.device.device_id);
  if (device.status() != BNB_OK) return device.status();
#if defined(__CUDACC__) || defined(__HIPCC__)
  constexpr size_t kWithoutAsking = 48 << 10;  // more dynamic shared memory than this has to be asked for
  if (grid.shared_bytes > kWithoutAsking) {
    const auto error = BNB_SDK(FuncSetAttribute)(reinterpret_cast<const void *>(kernel),
                                                 BNB_SDK(FuncAttributeMaxDynamicSharedMemorySize), int(grid.shared_bytes));
    if (error != BNB_SDK(Success)) return status_of(error, "cudaFuncSetAttribute");
  }
  kernel<<<dim3(unsigned(grid.blocks)), dim3(unsigned(grid.threads)), grid.shared_bytes, stream_of(queue.stream)>>>(
      Parameters(args)...);
  const auto error = BNB_SDK(GetLastError)();
  return error == BNB_SDK(Success) ? BNB_OK : status_of(error, "launch");
#else
  const simt::DeviceMemoryOpen open;
  const char *problem = simt::run({grid.blocks, grid.threads, grid.shared_bytes}, [&] { kernel(Parameters(args)...); });
  return *problem ? fail(BNB_ERROR_DEVICE, "%s", problem) : BNB_OK;
#endif
}

// Blocks for `units` of work where a block goes on to the next unit when it is done with one: as many as fill the device.
inline int64_t blocks_for(const Queue &queue, int64_t units, int blocks_per_multiprocessor) {
  const int64_t fill = int64_t(device_of(queue).multiprocessors) * blocks_per_multiprocessor;
  return units < fill ? units : fill;
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_LAUNCH_H_
