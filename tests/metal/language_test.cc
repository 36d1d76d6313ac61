// SPDX-License-Identifier: MIT
// The host's Metal: what the functions of tests/metal/msl give, what the device interface of the tests does, and that mistakes of kernels
// are found while they run.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "formats/float16.h"
#include "metal/device.h"
#include "metal/expect.h"
#include "metal/pipelines.h"
#include "metal/sources.h"

using namespace bnb;
using namespace bnb::metal;

const Source bnb::metal::kSources[] = {{"language", "kernel"}};
const int bnb::metal::kSourceCount = 1;

namespace {

// A kernel on shared buffers, which the host reads afterwards.
class Launch {
 public:
  explicit Launch(const char *kernel, int32_t device = 0) : device_(device), commands_(device, nullptr) {
    void *pipeline = nullptr;
    status_ = find_pipeline(device, "language", kernel, &pipeline);
    if (status_ == BNB_OK) commands_.set_pipeline(pipeline);
  }
  ~Launch() {
    for (void *buffer : buffers_) release_buffer(buffer);
  }
  template <typename T>
  T *array(int index, const std::vector<T> &content) {
    void *buffer = nullptr;
    if (new_buffer(device_, content.size() * sizeof(T), Storage::kShared, &buffer) != BNB_OK) return nullptr;
    buffers_.push_back(buffer);
    std::memcpy(host_address(buffer), content.data(), content.size() * sizeof(T));
    if (status_ == BNB_OK) commands_.set_buffer(buffer, 0, index);
    return static_cast<T *>(host_address(buffer));
  }
  bnb_status run(uint32_t groups, int threads, size_t threadgroup_bytes = 0) {
    if (status_ != BNB_OK) return status_;
    if (threadgroup_bytes) commands_.set_threadgroup_memory(threadgroup_bytes, 0);
    commands_.dispatch(groups, threads);
    commands_.commit();
    return commands_.wait();
  }

 private:
  int32_t device_;
  CommandBuffer commands_;
  bnb_status status_;
  std::vector<void *> buffers_;
};

void check_simdgroup_functions() {
  Launch launch("simdgroup_functions");
  const uint32_t *out = launch.array<uint32_t>(1, std::vector<uint32_t>(640));
  expect(launch.run(1, 64) == BNB_OK, "simdgroup functions run");
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t first = i / 32 * 32, lane = i % 32, x = 3 * i + 1;
    const auto of = [&](uint32_t other) { return 3 * (first + other) + 1; };
    const uint32_t before = 3 * (lane * first + lane * (lane - 1) / 2) + lane;
    const uint32_t want[10] = {3 * (32 * first + 496) + 32, of(31), of(0), of(lane ^ 5), of((lane + 7) % 32), before, of(0),
                               lane > 0 ? x - 3 : 0, lane < 31 ? x + 3 : 0, first == 32 ? 3u : 2u};
    expect(std::memcmp(out + 10 * i, want, sizeof want) == 0, "a simdgroup function");
  }
}

void check_sum() {
  Launch launch("sum");
  const uint32_t *total = launch.array<uint32_t>(1, {0});
  expect(launch.run(7, 96, 96 * 4) == BNB_OK, "atomics and threadgroup memory run");
  expect(*total == 672 * 671 / 2, "a sum over the grid");
}

template <typename T, typename Widen>
void check_matrices(const char *kernel, int32_t device, const std::vector<T> &bits, const Widen &widen) {
  Launch launch(kernel, device);
  std::vector<T> a(64), b(64);
  std::vector<float> c(64), want(64);
  for (size_t i = 0; i < 64; ++i) {
    a[i] = bits[i % bits.size()];
    b[i] = bits[(i * 5 + 3) % bits.size()];
    c[i] = float(i);
  }
  for (size_t row = 0; row < 8; ++row) {
    for (size_t col = 0; col < 8; ++col) {
      float sum = c[row * 8 + col];
      for (size_t k = 0; k < 8; ++k) sum += widen(a[row * 8 + k]) * widen(b[col * 8 + k]);
      want[row * 8 + col] = sum;
    }
  }
  launch.array(1, a);
  launch.array(2, b);
  launch.array(3, c);
  const float *out = launch.array(4, std::vector<float>(64));
  expect(launch.run(1, 32) == BNB_OK, kernel);
  expect(std::memcmp(out, want.data(), sizeof(float) * 64) == 0, kernel);
}

void check_subnormal_numbers() {
  for (int32_t device : {0, 1}) {
    Launch launch("twice", device);
    const float *x = launch.array<float>(1, {0x1p-140f});
    expect(launch.run(1, 1) == BNB_OK, "twice runs");
    expect(*x == (device == 0 ? 0.0f : 0x1p-139f), "subnormal numbers are zero on device 0 alone");
  }
}

void fails(const char *kernel, int threads, const char *words) {
  Launch launch(kernel);
  launch.array<uint32_t>(1, std::vector<uint32_t>(64));
  const bool failed = launch.run(1, threads) == BNB_ERROR_DEVICE;
  expect(failed && std::strstr(bnb_last_error(), words), kernel);
}

}  // namespace

int main() {
  check_simdgroup_functions();
  check_sum();
  const std::vector<float> floats = {1.5f, -2.0f, 3.0f, 0.25f, -0.5f, 7.0f, 1.0f};
  check_matrices("matrices_f32", 0, floats, [](float x) { return x; });
  std::vector<uint16_t> halves, brains;
  for (float x : floats) {
    halves.push_back(formats::fp16_from_float(x));
    brains.push_back(formats::bf16_from_float(x));
  }
  check_matrices("matrices_f16", 1, halves, formats::float_from_fp16);
  check_matrices("matrices_bf16", 0, brains, formats::float_from_bf16);
  void *pipeline = nullptr;
  expect(find_pipeline(1, "language", "matrices_bf16", &pipeline) == BNB_ERROR_INTERNAL, "the language of device 1 has no bfloat");
  expect(find_pipeline(0, "language", "nothing", &pipeline) == BNB_ERROR_INTERNAL, "a kernel that is not there");
  check_subnormal_numbers();
  fails("race", 64, "race");
  fails("half_a_barrier", 64, "divergent");
  fails("behind_the_end", 64, "out of bounds");
  fails("unset", 64, "buffer(2)");
  std::printf("%d failures\n", failures);
  return failures != 0;
}
