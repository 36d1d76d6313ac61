// SPDX-License-Identifier: MIT
// The list of backends in this library, written by Meson from the enabled rows of libbnb/meson.build.
#include "core/backend.h"

namespace bnb {

#define BNB_BACKEND(name) \
  namespace name {        \
  extern const Backend kBackend; \
  }
#include BNB_BACKENDS_INC
#undef BNB_BACKEND

namespace {

const Backend *const kBackends[] = {
#define BNB_BACKEND(name) &name::kBackend,
#include BNB_BACKENDS_INC
#undef BNB_BACKEND
};
constexpr int32_t kCount = int32_t(sizeof kBackends / sizeof kBackends[0]);

}  // namespace

const Backend *backend_at(int32_t index) { return index >= 0 && index < kCount ? kBackends[index] : nullptr; }

const Backend *backend_for(DLDeviceType type) {
  for (const Backend *backend : kBackends) {
    if (backend->owns(type)) return backend;
  }
  return nullptr;
}

}  // namespace bnb
