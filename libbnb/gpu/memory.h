// SPDX-License-Identifier: MIT
// The memory services of struct Backend. prefetch, whose arguments differ most among SDKs, is each backend's own.
#ifndef BNB_GPU_MEMORY_H_
#define BNB_GPU_MEMORY_H_

#include "core/backend.h"

namespace bnb::gpu {

bnb_status allocate(DLDevice, size_t bytes, void **data);
bnb_status allocate_managed(DLDevice, size_t bytes, void **data);
bnb_status release(DLDevice, void *data);
bnb_status copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream);
bnb_status synchronize(DLDevice, void *stream);
bnb_status prefetch(const void *data, size_t bytes, DLDevice to, void *stream);
Memory home_of(const void *data, DLDevice *device);
Memory kind_of(const void *data, int *device);  // the device, unless it is the host's; each backend's own, too
bnb_status borrow(Queue, size_t bytes, void **data);
void give_back(Queue, void *data, size_t bytes);

}  // namespace bnb::gpu

#endif  // BNB_GPU_MEMORY_H_
