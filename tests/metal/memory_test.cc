// SPDX-License-Identifier: MIT
// Tensors whose data is a handle, or an address in managed memory: copies, bounds of buffers, overlaps of views, and buffers of another
// device.
#include <bnb/bitsandbytes.h>
#include <bnb/metal.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "metal/expect.h"

namespace {

constexpr DLDevice kHost{kDLCPU, 0};

// From host memory to a buffer, to another, and back; whole pages and not.
void check_copies(DLDevice device, size_t bytes, bool managed) {
  auto *pages = static_cast<uint8_t *>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + 4096));
  auto *back = static_cast<uint8_t *>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + 4096));
  for (size_t i = 0; i < bytes; ++i) pages[i] = uint8_t(i * 7 + i / 256);
  void *one = nullptr, *two = nullptr;
  expect((managed ? bnb_allocate_managed : bnb_allocate)(device, bytes, &one) == BNB_OK, "allocation");
  expect(bnb_allocate(device, bytes, &two) == BNB_OK, "allocation");
  expect(bnb_copy(device, one, kHost, pages, bytes, nullptr) == BNB_OK, "a copy to the device");
  expect(bnb_copy(device, two, device, one, bytes, nullptr) == BNB_OK, "a copy on the device");
  expect(bnb_prefetch(one, bytes, device, nullptr) == BNB_OK, "a prefetch");
  expect(bnb_copy(kHost, back, device, two, bytes, nullptr) == BNB_OK, "a copy from the device");
  expect(std::memcmp(pages, back, bytes) == 0, "what comes back is what went");
  expect(bnb_copy(kHost, back, device, two, bytes + 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT, "a copy of more than there is");
  expect(bnb_free(device, one) == BNB_OK && bnb_free(device, two) == BNB_OK, "freeing");
  std::free(pages);
  std::free(back);
}

constexpr DLDataType kF32{kDLFloat, 32, 1}, kU8{kDLUInt, 8, 1};

bnb_status quantize(void *a, uint64_t a_offset, void *out, uint64_t out_offset, DLDevice device, DLDevice device_of_out, int64_t n) {
  void *rest = nullptr;
  if (bnb_allocate(device, 4096, &rest) != BNB_OK) return BNB_ERROR_INTERNAL;
  Tensor in(a, device, kF32, n, a_offset), codes(out, device_of_out, kU8, n, out_offset), code(rest, device, kF32, 256, 0),
      absmax(rest, device, kF32, n ? 1 : 0, 2048);
  const bnb_status status = cquantize_blockwise(&in.tensor, &code.tensor, n ? n : 1, &codes.tensor, &absmax.tensor, nullptr);
  bnb_synchronize(device, nullptr);
  bnb_free(device, rest);
  return status;
}

bool says(const char *words) { return std::strstr(bnb_last_error(), words) != nullptr; }

void check_views(DLDevice device) {
  void *buffer = nullptr, *other = nullptr, *foreign = nullptr;
  const DLDevice stranger{kDLMetal, 1 - device.device_id};
  expect(bnb_allocate(device, 1000, &buffer) == BNB_OK && bnb_allocate(device, 1000, &other) == BNB_OK &&
             bnb_allocate(stranger, 1000, &foreign) == BNB_OK,
         "allocation");
  expect(quantize(buffer, 0, buffer, 400, device, device, 100) == BNB_OK, "views of one buffer that only touch");
  expect(quantize(buffer, 0, other, 0, device, device, 100) == BNB_OK, "views of two buffers");
  expect(quantize(buffer, 0, buffer, 399, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says("out overlaps A"), "an overlap");
  expect(quantize(buffer, 601, other, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says("A reaches beyond its buffer"),
         "a view beyond the end");
  const uint64_t far = ~uint64_t(0) - 100;
  expect(quantize(buffer, far, other, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says("A reaches beyond"),
         "a view whose end overflows");
  const char *strange = "out.data is a buffer of another device";
  expect(quantize(buffer, 0, foreign, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says(strange),
         "a handle of another device");
  expect(quantize(nullptr, 0, nullptr, 0, device, device, 0) == BNB_OK, "empty tensors without a buffer");
  bnb_free(device, buffer);
  bnb_free(device, other);
  bnb_free(stranger, foreign);
}

// A list with more tensors than are compared at once, some of them views of one buffer.
void check_list(DLDevice device) {
  constexpr int kCount = 50;
  std::vector<void *> buffers(kCount);
  std::vector<Tensor> tensors;
  std::vector<const DLTensor *> list;
  tensors.reserve(kCount);
  for (int i = 0; i < kCount; ++i) {
    if (i % 5 == 4) buffers[size_t(i)] = buffers[size_t(i) - 1];
    else expect(bnb_allocate(device, 64, &buffers[size_t(i)]) == BNB_OK, "allocation");
    tensors.emplace_back(buffers[size_t(i)], device, kF32, 8, i % 5 == 4 ? 32 : 0);
    list.push_back(&tensors.back().tensor);
  }
  void *results = nullptr;
  expect(bnb_allocate(device, 4 * kCount + 8, &results) == BNB_OK, "allocation");
  Tensor norms(results, device, kF32, kCount, 0), total(results, device, kF32, 1, 4 * kCount),
      found(results, device, kF32, 1, 4 * kCount + 4);
  const bnb_status status = cmeasure_norms(list.data(), kCount, &norms.tensor, &total.tensor, &found.tensor, nullptr);
  expect(status == BNB_OK || status == BNB_ERROR_UNSUPPORTED, "a list of tensors");
  bnb_synchronize(device, nullptr);
  for (int i = 0; i < kCount; ++i) {
    if (i % 5 != 4) bnb_free(device, buffers[size_t(i)]);
  }
  bnb_free(device, results);
}

// Addresses: the first byte and others, on the host, in copies, in tensors and in calls that take nothing else.
void check_managed(DLDevice device) {
  void *data = nullptr, *buffer = nullptr, *foreign = nullptr;
  const DLDevice stranger{kDLMetal, 1 - device.device_id};
  expect(bnb_allocate_managed(device, 4000, &data) == BNB_OK && bnb_allocate(device, 4000, &buffer) == BNB_OK &&
             bnb_allocate_managed(stranger, 4000, &foreign) == BNB_OK,
         "allocation");
  auto *bytes = static_cast<uint8_t *>(data);
  std::memset(bytes, 0, 4000);
  expect(quantize(bytes, 0, bytes + 400, 0, device, device, 100) == BNB_OK, "addresses that only touch");
  expect(quantize(bytes + 8, 8, bytes, 416, device, device, 100) == BNB_OK, "an address and byte_offset");
  expect(quantize(bytes, 0, bytes + 399, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says("out overlaps A"), "an overlap");
  expect(quantize(buffer, 0, bytes + 3900, 0, device, device, 100) == BNB_OK, "a handle and an address");
  expect(quantize(buffer, 0, bytes + 3901, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT && says("out reaches beyond its buffer"),
         "an address too near to the end");
  expect(quantize(buffer, 0, foreign, 0, device, device, 100) == BNB_ERROR_INVALID_ARGUMENT &&
             says("out.data is a buffer of another device"),
         "managed memory of another device");

  for (int i = 0; i < 1000; ++i) bytes[i] = uint8_t(i);
  expect(bnb_copy(device, bytes + 2003, device, bytes + 7, 900, nullptr) == BNB_OK && bnb_synchronize(device, nullptr) == BNB_OK &&
             std::memcmp(bytes + 2003, bytes + 7, 900) == 0,
         "a copy between addresses");
  expect(bnb_copy(device, bytes + 3999, kHost, "ab", 2, nullptr) == BNB_ERROR_INVALID_ARGUMENT, "a copy beyond the end");
  expect(bnb_copy(device, bytes + 3998, kHost, "ab", 2, nullptr) == BNB_OK && bytes[3999] == 'b', "a copy up to the end");

  expect(cfill_uint8(bytes + 1, nullptr, 9, 50) == BNB_OK && bnb_synchronize(device, nullptr) == BNB_OK && bytes[1] == 9 &&
             bytes[50] == 9 && bytes[51] == 51,
         "a function of addresses");
  auto *const halves = reinterpret_cast<bnb_fp16 *>(bytes);
  float stats[2];
  int64_t count = 0;
  size_t temporary = 0;
  expect(cget_row_stats(halves, stats, 0.0f, 2, 8, bnb_metal_recorder()) == BNB_ERROR_INVALID_ARGUMENT && says("has to be managed"),
         "host memory in a list of launches");
  expect(cget_row_stats(halves, reinterpret_cast<float *>(bytes + 64), 0.0f, 2, 8, bnb_metal_recorder()) == BNB_OK,
         "addresses in a list of launches");
  const bnb_metal_launch *launches = bnb_metal_take(&count, &temporary);
  expect(count == 1 && launches[0].buffers[0].buffer && launches[0].buffers[0].buffer != data && launches[0].buffers[1].offset == 64,
         "the buffer of an address on the list");
  uint8_t host[50];
  expect(cfill_uint8(host, nullptr, 8, 50) == BNB_OK && host[49] == 8, "host memory");
  expect(bnb_free(device, bytes + 1) == BNB_ERROR_INVALID_ARGUMENT && says("behind where its managed memory begins"),
         "freeing from the middle");
  expect(cfill_uint8(bytes, nullptr, 3, 4000) == BNB_OK && bnb_free(device, bytes) == BNB_OK && bnb_synchronize(device, nullptr) == BNB_OK,
         "freeing what queued work needs");
  expect(bnb_free(device, buffer) == BNB_OK && bnb_free(stranger, foreign) == BNB_OK, "freeing");
}

// Many threads allocate, look and free at once.
void check_threads(DLDevice device) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      void *mine[20] = {};
      for (int round = 0; round < 50; ++round) {
        for (void *&data : mine) wrong += bnb_allocate_managed(device, size_t(64 * (i + 1)), &data) != BNB_OK;
        for (void *data : mine) wrong += bnb_copy(device, static_cast<char *>(data) + i, kHost, "x", 1, nullptr) != BNB_OK;
        for (void *data : mine) wrong += static_cast<char *>(data)[i] != 'x' || bnb_free(device, data) != BNB_OK;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  expect(wrong == 0, "threads with managed memory of their own");
}

}  // namespace

int main() {
  for (int32_t id : {0, 1}) {
    const DLDevice device{kDLMetal, id};
    for (size_t bytes : {size_t(1), size_t(15), size_t(16), size_t(4096), size_t(4097), size_t(65536), size_t(300001)}) {
      check_copies(device, bytes, false);
      check_copies(device, bytes, true);
    }
    check_views(device);
    check_list(device);
    check_managed(device);
    check_threads(device);
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
