// SPDX-License-Identifier: MIT
// The SDK of the emulated device: the calls of libbnb/gpu/sdk.h. Its streams are never behind: every call is done on return.
// Memory of the device cannot be touched by host code: it is mapped without permissions while no kernel and no copy runs.
#ifndef TESTS_SIMT_RUNTIME_H_
#define TESTS_SIMT_RUNTIME_H_

#include <cstddef>
#include <cstdint>

using simtStream_t = void *;
enum simtError_t { simtSuccess = 0, simtErrorInvalidValue = 1, simtErrorMemoryAllocation = 2 };
enum simtMemcpyKind { simtMemcpyDefault };
enum : unsigned { simtMemAttachGlobal = 1 };

simtError_t simtGetLastError();
const char *simtGetErrorString(simtError_t error);
simtError_t simtGetDevice(int *device);
simtError_t simtSetDevice(int device);
simtError_t simtGetDeviceCount(int *count);
simtError_t simtMalloc(void **data, size_t bytes);
simtError_t simtMallocManaged(void **data, size_t bytes, unsigned flags);
simtError_t simtFree(void *data);
simtError_t simtMallocAsync(void **data, size_t bytes, simtStream_t stream);
simtError_t simtFreeAsync(void *data, simtStream_t stream);
simtError_t simtMemcpyAsync(void *to, const void *from, size_t bytes, simtMemcpyKind kind, simtStream_t stream);
simtError_t simtMemsetAsync(void *data, int value, size_t bytes, simtStream_t stream);
simtError_t simtStreamSynchronize(simtStream_t stream);

namespace simt {

// Opens the memory of the device to this process for as long as one of them lives.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  ~DeviceMemoryOpen();
};

enum class Memory { kHost, kDevice, kManaged };
Memory kind_of(const void *address);               // where an address lives
bool in_allocation(uintptr_t address, size_t bytes);  // all of it in one allocation of the device

}  // namespace simt

#endif  // TESTS_SIMT_RUNTIME_H_
