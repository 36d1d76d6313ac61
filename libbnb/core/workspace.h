// SPDX-License-Identifier: MIT
// What a thread has said about memory of devices during operations: whether it asks for sizes alone, and what it gave
// (bnb/workspace.h).
#ifndef BNB_CORE_WORKSPACE_H_
#define BNB_CORE_WORKSPACE_H_

#include <bnb/bnb.h>

namespace bnb::workspace {

constexpr size_t kAlignment = 256;  // of memory that is given, and of all that is taken from it
constexpr int32_t kMaxDevices = 64;

// Whether this thread has said anything: what nearly every call asks, and no more than that.
bool concerned();

bool querying();  // operations count and launch nothing

// Memory that the thread has given for operations on a device; NULL: none. False: no device has such a number.
void *given(int32_t device_id, size_t *bytes);
bool give(int32_t device_id, void *data, size_t bytes);

// Takes `bytes` bytes: counts them, and returns where they are, in the memory that was given or, in a query, nowhere. NULL: they are
// not to be had there. What was taken last is returned first.
void *take(int32_t device_id, size_t bytes);
void put_back(size_t bytes);
bool is_nowhere(const void *data);

// Begins a query of the thread, counting anew, or ends it; and the most bytes that were taken at once since.
void ask(bool on);
size_t most();

// A query within a call, for as long as it lives; what the call has taken already counts. Not within another query.
class Query {
 public:
  Query();
  ~Query();
  Query(const Query &) = delete;
  Query &operator=(const Query &) = delete;
  size_t bytes() const { return most(); }

 private:
  size_t taken_, most_;
};

}  // namespace bnb::workspace

#endif  // BNB_CORE_WORKSPACE_H_
