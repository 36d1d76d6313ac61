// SPDX-License-Identifier: MIT
// The memory services of struct Backend on Metal: what callers hold is a buffer, or an address in managed memory.
#ifndef BNB_METAL_MEMORY_H_
#define BNB_METAL_MEMORY_H_

#include "core/backend.h"

namespace bnb::metal {

bnb_status allocate(DLDevice, size_t bytes, void **data);
bnb_status allocate_managed(DLDevice, size_t bytes, void **data);
bnb_status release(DLDevice, void *data);
bnb_status copy(DLDevice to, void *destination, DLDevice from, const void *source, size_t bytes, void *stream);
bnb_status synchronize(DLDevice, void *stream);
bnb_status prefetch(const void *data, size_t bytes, DLDevice to, void *stream);
Memory home_of(const void *data, DLDevice *device);
bool buffer_at(const void *address, void **buffer, uint64_t *offset);

}  // namespace bnb::metal

#endif  // BNB_METAL_MEMORY_H_
