// SPDX-License-Identifier: MIT
// The class of api/pointers.h.
#include "api/pointers.h"

#include <cstdio>
#include <cstring>

#include "core/launches.h"
#include "core/status.h"
#include "core/workspace.h"

namespace bnb::api {
namespace {

// The backend that can tell whose a pointer is; NULL in a library, or on a machine, where all memory is the host's.
const Backend *backend_with_addresses() {
  for (int32_t i = 1; const Backend *backend = backend_at(i); ++i) {
    if (backend->home_of && backend->device_count() > 0) return backend;
  }
  return nullptr;
}

constexpr DLDevice kHost{kDLCPU, 0};

}  // namespace

bnb_status borrow(const Backend *backend, const Queue &queue, size_t bytes, void **data) {
  if (launches::records(queue.stream)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "with bnb_metal_recorder() all memory has to be managed, and none can be taken");
  }
  return backend->borrow ? backend->borrow(queue, bytes, data) : backend->allocate_managed(queue.device, bytes, data);
}

void give_back(const Backend *backend, const Queue &queue, void *data, size_t bytes) {
  if (backend->borrow) {
    backend->give_back(queue, data, bytes);
  } else {
    backend->release(queue.device, data);
  }
}

Pointers::Pointers(const char *function, void *stream, std::initializer_list<const void *> all) : function_(function) {
  const Backend *backend = backend_with_addresses();
  if (!backend) return;
  for (const void *data : all) {
    DLDevice device;
    const Memory home = data ? backend->home_of(data, &device) : Memory::kHost;
    if (home == Memory::kHost || (home == Memory::kManaged && backend_)) continue;
    backend_ = backend;
    queue_ = {device, stream};
    if (home == Memory::kDevice) return;  // managed memory goes where a device's own is
  }
}

DLDevice Pointers::current_device() {
  DLDevice device = kHost;
  if (const Backend *backend = backend_with_addresses()) backend->home_of(nullptr, &device);
  return device;
}

Pointers::~Pointers() {
  for (int i = count_; i-- > 0;) give_back(backend_, queue_, copies_[i].device, size_t(copies_[i].bytes));
}

bool Pointers::is_host(const void *data) const {
  DLDevice device;
  return !backend_ || backend_->home_of(data, &device) == Memory::kHost;
}

void *Pointers::problem(bnb_status status, const char *text) {
  if (status_ == BNB_OK) {
    status_ = status;
    std::snprintf(text_, sizeof text_, "%s", text);
  }
  return nullptr;
}

void *Pointers::place(const void *data, int64_t bytes, bool written, DLDevice *device) {
  void *const where = const_cast<void *>(data);  // operations take their inputs as const DLTensor
  *device = queue_.device;
  if (!backend_ || !data || bytes <= 0 || workspace::is_nowhere(data)) return where;
  DLDevice home;
  const Memory memory = backend_->home_of(data, &home);
  if (memory == Memory::kDevice) *device = home;
  if (memory != Memory::kHost) return where;

  const char *begin = static_cast<const char *>(data), *end = begin + bytes;
  for (int i = 0; i < count_; ++i) {
    const char *other = static_cast<const char *>(copies_[i].host);
    if (begin < other + copies_[i].bytes && other < end && (written || copies_[i].written)) {
      return problem(BNB_ERROR_INVALID_ARGUMENT, "an output overlaps another argument");
    }
    if (begin == other && bytes <= copies_[i].bytes) return copies_[i].device;  // an input that is there
  }
  if (count_ == kMostCopies) return problem(BNB_ERROR_INTERNAL, "more pointers than any function has");
  void *copy = nullptr;
  bnb_status status = borrow(backend_, queue_, size_t(bytes), &copy);
  if (status != BNB_OK) return problem(status, bnb_last_error());
  copies_[count_++] = {where, copy, bytes, written};
  // An output's bytes, too: some functions leave gaps between rows as they are.
  if (!workspace::querying()) status = copy_to_device(copy, data, bytes);
  return status == BNB_OK ? copy : problem(status, bnb_last_error());
}

// Memory that was just allocated and is the host's, too, is written without waiting for the stream.
bnb_status Pointers::copy_to_device(void *copy, const void *data, int64_t bytes) {
  if (backend_->borrow) return backend_->copy(queue_.device, copy, kHost, data, size_t(bytes), queue_.stream);
  std::memcpy(copy, data, size_t(bytes));
  return BNB_OK;
}

bnb_status Pointers::copy_back(const Copy &copy) {
  return backend_->copy(kHost, copy.host, queue_.device, copy.device, size_t(copy.bytes), queue_.stream);
}

bnb_status Pointers::read(void *to, const void *from, int64_t bytes) {
  if (launches::records(queue_.stream)) {
    return fail(BNB_ERROR_INVALID_ARGUMENT, "with bnb_metal_recorder() nothing can be read before the launches run");
  }
  if (!is_host(from)) return backend_->copy(kHost, to, queue_.device, from, size_t(bytes), queue_.stream);
  std::memcpy(to, from, size_t(bytes));
  return BNB_OK;
}

bnb_status Pointers::finish(bnb_status status) {
  if (status_ != BNB_OK) return fail(status_, "%s: %s", function_, text_);
  for (int i = 0; i < count_ && status == BNB_OK && !workspace::querying(); ++i) {
    if (copies_[i].written) status = copy_back(copies_[i]);
  }
  if (status == BNB_OK) return BNB_OK;
  const size_t length = std::strlen(function_);
  char text[512];
  std::snprintf(text, sizeof text, "%s", bnb_last_error());
  if (std::strncmp(text, function_, length) == 0 && text[length] == ':') return status;
  return fail(status, "%s: %s", function_, text);
}

}  // namespace bnb::api
