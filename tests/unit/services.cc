// SPDX-License-Identifier: MIT
// Versions, error texts, memory: the bnb_<verb> functions.
#include <bnb/metal.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "formats/dynamic_map.h"

namespace {

constexpr DLDevice kCpu{kDLCPU, 0};

bool contains(const char *text, const char *part) { return std::strstr(text, part) != nullptr; }

void check_versions() {
  CHECK(BNB_ABI_VERSION == MESON_ABI_VERSION);
  CHECK(bnb_abi_version() == BNB_ABI_VERSION);
  CHECK(std::strcmp(bnb_version(), MESON_VERSION) == 0);
}

void check_status_names() {
  const char *names[] = {"OK", "INVALID_ARGUMENT", "UNSUPPORTED", "OUT_OF_MEMORY", "DEVICE", "INTERNAL"};
  for (int32_t i = 0; i < 6; ++i) CHECK(std::strcmp(bnb_status_name(bnb_status(i)), names[i]) == 0);
  for (int32_t i : {-1, 6, INT32_MAX, INT32_MIN}) CHECK(bnb_status_name(bnb_status(i)) != nullptr);
}

void check_error_text() {
  std::thread([] { CHECK(std::strcmp(bnb_last_error(), "") == 0); }).join();  // a thread that never failed
  CHECK(bnb_set_num_threads(-5) == BNB_ERROR_INVALID_ARGUMENT);
  const std::string text = bnb_last_error();
  CHECK(contains(text.c_str(), "bnb_set_num_threads") && contains(text.c_str(), "-5"));
  CHECK(bnb_set_num_threads(0) == BNB_OK);
  CHECK(text == bnb_last_error());  // valid until the next failing call
  std::thread([] {
    CHECK(bnb_set_isa("another thread's") != BNB_OK);
    CHECK(contains(bnb_last_error(), "another thread's"));
  }).join();
  CHECK(text == bnb_last_error());
}

// Texts do not mix when many threads fail at once.
void check_error_text_in_threads() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      const std::string name = "set" + std::to_string(t) + "end";
      for (int i = 0; i < 2000; ++i) {
        bnb_set_isa(name.c_str());
        wrong += !contains(bnb_last_error(), name.c_str());
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(wrong == 0);
}

void check_backends() {
  CHECK(std::strcmp(bnb_backend_name(0), "cpu") == 0);
  CHECK(bnb_backend_name(-1) == nullptr && bnb_backend_name(100) == nullptr);
  CHECK(bnb_device_count("cpu") == 1);
  CHECK(bnb_device_count("abacus") == 0 && bnb_device_count(nullptr) == 0);
}

void check_memory() {
  for (size_t bytes : {size_t(1), size_t(63), size_t(4096), size_t(5) << 20}) {
    for (auto allocate : {bnb_allocate, bnb_allocate_managed}) {
      void *data = nullptr;
      CHECK(allocate(kCpu, bytes, &data) == BNB_OK);
      CHECK(data && reinterpret_cast<uintptr_t>(data) % 64 == 0);
      std::memset(data, 1, bytes);
      CHECK(bnb_prefetch(data, bytes, kCpu, nullptr) == BNB_OK);
      CHECK(bnb_free(kCpu, data) == BNB_OK);
    }
  }
  void *data = &data;
  CHECK(bnb_allocate(kCpu, 0, &data) == BNB_OK && data == nullptr);
  CHECK(bnb_free(kCpu, nullptr) == BNB_OK);
  char from[4] = {1, 2, 3, 4}, to[4] = {};
  CHECK(bnb_copy(kCpu, to, kCpu, from, 4, nullptr) == BNB_OK && std::memcmp(from, to, 4) == 0);
  CHECK(bnb_copy(kCpu, nullptr, kCpu, nullptr, 0, nullptr) == BNB_OK);
  CHECK(bnb_synchronize(kCpu, nullptr) == BNB_OK);
}

void check_memory_errors() {
  void *data = &data;
  void *const before = data;
  char byte = 0;
  if (!unit::kAddressSanitizer && !unit::kThreadSanitizer) {  // their allocators stop the program instead
    CHECK(bnb_allocate(kCpu, SIZE_MAX, &data) == BNB_ERROR_OUT_OF_MEMORY && data == before);
    CHECK(bnb_allocate(kCpu, SIZE_MAX / 2, &data) == BNB_ERROR_OUT_OF_MEMORY && data == before);
  }
  CHECK(bnb_allocate(kCpu, 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(bnb_allocate_managed(kCpu, 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  for (DLDevice device :
       {DLDevice{kDLCPU, 1}, DLDevice{kDLCPU, -1}, DLDevice{kDLVulkan, 0}, DLDevice{DLDeviceType(0), 0},
        DLDevice{DLDeviceType(-7), 0}, DLDevice{DLDeviceType(9999), 0}}) {
    CHECK(bnb_allocate(device, 1, &data) != BNB_OK && data == before && contains(bnb_last_error(), "bnb_allocate"));
    CHECK(bnb_allocate_managed(device, 1, &data) != BNB_OK && data == before);
    CHECK(bnb_free(device, nullptr) != BNB_OK && contains(bnb_last_error(), "bnb_free"));
    CHECK(bnb_copy(device, &byte, kCpu, &byte, 1, nullptr) != BNB_OK && contains(bnb_last_error(), "bnb_copy"));
    CHECK(bnb_copy(kCpu, &byte, device, &byte, 1, nullptr) != BNB_OK);
    CHECK(bnb_synchronize(device, nullptr) != BNB_OK && contains(bnb_last_error(), "bnb_synchronize"));
    CHECK(bnb_prefetch(&byte, 1, device, nullptr) != BNB_OK && contains(bnb_last_error(), "bnb_prefetch"));
  }
  CHECK(bnb_copy(kCpu, nullptr, kCpu, &byte, 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(contains(bnb_last_error(), "destination"));
  CHECK(bnb_copy(kCpu, &byte, kCpu, nullptr, 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(contains(bnb_last_error(), "source"));
  CHECK(bnb_prefetch(nullptr, 1, kCpu, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
}

// What a library without Metal says of it.
void check_metal() {
  int64_t count = -1;
  size_t bytes = 1;
  const bnb_metal_launch launch{};
  CHECK(bnb_metal_recorder() == nullptr);
  CHECK(bnb_metal_take(&count, &bytes) == nullptr && count == 0 && bytes == 0);
  CHECK(bnb_metal_take(&count, nullptr) == nullptr && contains(bnb_last_error(), "temporary_bytes is NULL"));
  CHECK(bnb_metal_play(DLDevice{kDLMetal, 0}, &launch, 1, nullptr, nullptr) == BNB_ERROR_UNSUPPORTED);
}

void check_dynamic_map() {
  float code[256];
  CHECK(bnb_create_dynamic_map(1, code) == BNB_OK);
  CHECK(std::memcmp(code, bnb::formats::dynamic_map::kSignedBits, sizeof code) == 0);
  CHECK(bnb_create_dynamic_map(0, code) == BNB_OK);
  CHECK(std::memcmp(code, bnb::formats::dynamic_map::kUnsignedBits, sizeof code) == 0);
  CHECK(bnb_create_dynamic_map(1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(contains(bnb_last_error(), "bnb_create_dynamic_map"));
}

}  // namespace

int main() {
  unit::run("versions", check_versions);
  unit::run("status names", check_status_names);
  unit::run("error text", check_error_text);
  unit::run("error text in threads", check_error_text_in_threads);
  unit::run("backends", check_backends);
  unit::run("memory", check_memory);
  unit::run("memory errors", check_memory_errors);
  unit::run("dynamic map", check_dynamic_map);
  unit::run("metal", check_metal);
  return unit::summary();
}
