// SPDX-License-Identifier: MIT
// The list on which operations put their launches instead of running them (bnb/metal.h), one for each thread.
#ifndef BNB_CORE_LAUNCHES_H_
#define BNB_CORE_LAUNCHES_H_

#include <bnb/metal.h>

namespace bnb::launches {

// The stream that means the list.
void *recorder();
inline bool records(const void *stream) { return stream == recorder(); }

// How many there are, for cut(). Those that were taken are gone from here on.
int64_t begin();

// A copy of a launch, and of all that it points to but its source. The list and what was copied stay where they are until begin().
bnb_status add(const bnb_metal_launch &launch);

// All but the first `count` are taken back.
void cut(int64_t count);

// Temporary memory for launches of the list: at which byte of it. False if there are more bytes than can be counted.
bool reserve(size_t bytes, uint64_t *offset);

const bnb_metal_launch *take(int64_t *count, size_t *temporary_bytes);

}  // namespace bnb::launches

#endif  // BNB_CORE_LAUNCHES_H_
