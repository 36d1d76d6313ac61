// SPDX-License-Identifier: MIT
// The state of core/workspace.h, one per thread.
#include "core/workspace.h"

#include <cstdint>

namespace bnb::workspace {
namespace {

struct Memory {
  char *data;
  size_t bytes;
};

// What a query takes is where no memory is: as aligned as the real thing, and it overlaps nothing.
constexpr uintptr_t kNowhere = uintptr_t(1) << 62;

thread_local bool asks, has_given;
thread_local size_t taken, most_taken;
thread_local Memory memory[kMaxDevices];

bool known(int32_t device_id) { return device_id >= 0 && device_id < kMaxDevices; }

// SIZE_MAX stays what no memory has.
size_t rounded(size_t bytes) { return bytes > SIZE_MAX - kAlignment ? bytes : (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

bool concerned() { return asks || has_given; }
bool querying() { return asks; }

void *given(int32_t device_id, size_t *bytes) {
  if (!known(device_id)) return nullptr;
  *bytes = memory[device_id].bytes;
  return memory[device_id].data;
}

bool give(int32_t device_id, void *data, size_t bytes) {
  if (!known(device_id)) return false;
  memory[device_id] = {static_cast<char *>(data), data ? bytes : 0};
  has_given = false;
  for (const Memory &one : memory) has_given = has_given || one.data;
  return true;
}

void *take(int32_t device_id, size_t bytes) {
  size_t after = 0;
  if (__builtin_add_overflow(taken, rounded(bytes), &after)) return nullptr;
  if (!asks && (!known(device_id) || after > memory[device_id].bytes)) return nullptr;
  char *const data = asks ? reinterpret_cast<char *>(kNowhere + taken) : memory[device_id].data + taken;
  taken = after;
  if (taken > most_taken) most_taken = taken;
  return data;
}

bool is_nowhere(const void *data) { return reinterpret_cast<uintptr_t>(data) >= kNowhere; }

void put_back(size_t bytes) { taken -= rounded(bytes); }

void ask(bool on) {
  asks = on;
  if (on) taken = most_taken = 0;
}
size_t most() { return most_taken; }

Query::Query() : taken_(taken), most_(most_taken) {
  asks = true;
  most_taken = taken;
}

Query::~Query() {
  asks = false;
  taken = taken_;
  most_taken = most_;
}

}  // namespace bnb::workspace
