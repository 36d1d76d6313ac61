// SPDX-License-Identifier: MIT
// The list of core/launches.h. A launch and what belongs to it is one allocation, which begins with its buffers.
#include "core/launches.h"

#include <cstdlib>
#include <cstring>

#include "core/status.h"
#include "core/workspace.h"

namespace bnb::launches {
namespace {

struct List {
  bnb_metal_launch *launches = nullptr;
  int64_t count = 0, capacity = 0;
  size_t temporary_bytes = 0;
  bool taken = false;

  List() = default;
  ~List() {
    shorten(0);
    std::free(launches);
  }
  List(const List &) = delete;
  List &operator=(const List &) = delete;

  void shorten(int64_t length) {
    for (; count > length; --count) std::free(const_cast<bnb_metal_buffer *>(launches[count - 1].buffers));
  }
  bool grow() {
    const int64_t more = capacity ? 2 * capacity : 16;
    void *list = std::realloc(launches, size_t(more) * sizeof(bnb_metal_launch));
    if (!list) return false;
    launches = static_cast<bnb_metal_launch *>(list);
    capacity = more;
    return true;
  }
};

thread_local List list;

// What no queue is.
const char stream_of_lists = 0;

}  // namespace

void *recorder() { return const_cast<char *>(&stream_of_lists); }

int64_t begin() {
  if (list.taken) {
    list.shorten(0);
    list.temporary_bytes = 0;
    list.taken = false;
  }
  return list.count;
}

bnb_status add(const bnb_metal_launch &launch) {
  const size_t buffers = size_t(launch.buffer_count) * sizeof(bnb_metal_buffer), name = std::strlen(launch.function) + 1;
  const size_t before_name = buffers + (launch.byte_count + 7) / 8 * 8;
  char *copy = static_cast<char *>(std::malloc(before_name + name));
  if (!copy || (list.count == list.capacity && !list.grow())) {
    std::free(copy);
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory to list launches");
  }
  bnb_metal_launch &made = list.launches[list.count++];
  made = launch;
  made.buffers = reinterpret_cast<bnb_metal_buffer *>(copy);
  made.bytes = copy + buffers;
  made.function = copy + before_name;
  if (buffers) std::memcpy(copy, launch.buffers, buffers);
  std::memcpy(copy + buffers, launch.bytes, launch.byte_count);
  std::memcpy(copy + before_name, launch.function, name);
  return BNB_OK;
}

void cut(int64_t count) { list.shorten(count); }

bool reserve(size_t bytes, uint64_t *offset) {
  begin();
  const size_t more = (bytes + workspace::kAlignment - 1) / workspace::kAlignment * workspace::kAlignment;
  *offset = list.temporary_bytes;
  return more >= bytes && !__builtin_add_overflow(list.temporary_bytes, more, &list.temporary_bytes);
}

const bnb_metal_launch *take(int64_t *count, size_t *temporary_bytes) {
  begin();
  *count = list.count;
  *temporary_bytes = list.count ? list.temporary_bytes : 0;
  list.taken = true;
  return list.count ? list.launches : nullptr;
}

}  // namespace bnb::launches
