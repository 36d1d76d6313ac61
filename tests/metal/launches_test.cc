// SPDX-License-Identifier: MIT
// Lists of launches: what an operation leaves on one, that running it does what the operation does, and what is refused.
#include <bnb/metal.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "metal/expect.h"

namespace {

bool says(const char *words) { return std::strstr(bnb_last_error(), words) != nullptr; }

constexpr DLDevice kHost{kDLCPU, 0};
constexpr DLDataType kF32{kDLFloat, 32, 1}, kU8{kDLUInt, 8, 1};
constexpr int64_t kCount = 1000, kOdd = 24;  // a block size for which quantizers need temporary memory
constexpr size_t kBytes = 8192, kOut = 4001, kScales = 6000;

// A buffer with 1000 floats, behind which codes and scales have room; and what is in it.
struct Memory {
  DLDevice device;
  void *buffer = nullptr;

  explicit Memory(DLDevice where) : device(where) {
    std::vector<uint8_t> bytes(kBytes, 0xEE);
    for (int64_t i = 0; i < kCount; ++i) {
      const float x = float((i * 37) % 101) - 50.0f;
      std::memcpy(bytes.data() + 4 * i, &x, 4);
    }
    expect(bnb_allocate(device, kBytes, &buffer) == BNB_OK, "allocation");
    expect(bnb_copy(device, buffer, kHost, bytes.data(), kBytes, nullptr) == BNB_OK, "a copy to the device");
  }
  ~Memory() { bnb_free(device, buffer); }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> found(kBytes);
    expect(bnb_copy(kHost, found.data(), device, buffer, kBytes, nullptr) == BNB_OK, "a copy from the device");
    return found;
  }
  bnb_status quantize(int64_t blocksize, void *stream, size_t out_offset = kOut) const {
    Tensor in(buffer, device, kF32, kCount, 0), out(buffer, device, kU8, kCount / 2, out_offset),
        scales(buffer, device, kF32, (kCount + blocksize - 1) / blocksize, kScales);
    return cquantize_4bit(&in.tensor, BNB_NF4, blocksize, &out.tensor, &scales.tensor, stream);
  }
};

bnb_status run(DLDevice device, const bnb_metal_launch *launches, int64_t count, size_t bytes) {
  void *temporary = nullptr;
  if (bnb_allocate(device, bytes, &temporary) != BNB_OK) return BNB_ERROR_INTERNAL;
  const bnb_status status = bnb_metal_play(device, launches, count, temporary, nullptr);
  bnb_synchronize(device, nullptr);
  bnb_free(device, temporary);
  return status;
}

void check_operations(DLDevice device, int64_t blocksize) {
  const Memory direct(device), listed(device);
  const std::vector<uint8_t> before = listed.bytes();
  int64_t count = 0;
  size_t bytes = 0;
  expect(direct.quantize(blocksize, nullptr) == BNB_OK && listed.quantize(blocksize, bnb_metal_recorder()) == BNB_OK, "the operation");
  bnb_synchronize(device, nullptr);
  expect(listed.bytes() == before, "nothing runs");
  const bnb_metal_launch *launches = bnb_metal_take(&count, &bytes);
  expect(launches && count == (blocksize == kOdd ? 3 : 1), "launches");
  expect((bytes > 0) == (blocksize == kOdd) && bytes % 256 == 0, "temporary memory");
  bool tensors = false, places = true;
  for (int64_t i = 0; i < count; ++i) {
    expect(std::strstr(launches[i].source, "metal_stdlib") && launches[i].function[0] && launches[i].groups > 0, "what is launched");
    expect(launches[i].threads % 32 == 0 && launches[i].byte_count > 0 && launches[i].byte_count <= 4096, "how it is launched");
    for (int32_t j = 0; j < launches[i].buffer_count; ++j) {
      const bnb_metal_buffer &buffer = launches[i].buffers[j];
      tensors = tensors || (buffer.place == BNB_METAL_TENSOR && buffer.offset == kOut);
      places = places && (buffer.buffer == (buffer.place == BNB_METAL_TENSOR ? listed.buffer : nullptr));
      places = places && (buffer.place != BNB_METAL_TEMPORARY || buffer.offset < bytes);
    }
  }
  expect(tensors && places, "buffers");
  for (int again = 0; again < 2; ++again) {
    expect(run(device, launches, count, bytes) == BNB_OK && listed.bytes() == direct.bytes(), "running the list");
  }
}

void check_lists(DLDevice device) {
  const Memory memory(device);
  void *const recorder = bnb_metal_recorder();
  int64_t count = -1;
  size_t bytes = 1;
  bnb_metal_take(&count, &bytes);
  expect(!bnb_metal_take(&count, &bytes) && count == 0 && bytes == 0, "a list that was taken is empty");
  expect(memory.quantize(kOdd, recorder) == BNB_OK && memory.quantize(64, recorder) == BNB_OK, "two operations");
  expect(memory.quantize(64, recorder, 3999) == BNB_ERROR_INVALID_ARGUMENT && says("out overlaps A"), "an operation that fails");
  Tensor nothing(nullptr, device, kF32, 0, 0), none(nullptr, device, kU8, 0, 0);
  expect(cquantize_4bit(&nothing.tensor, BNB_NF4, 64, &none.tensor, &nothing.tensor, recorder) == BNB_OK, "an operation on nothing");
  const bnb_metal_launch *launches = bnb_metal_take(&count, &bytes);
  expect(launches && count == 4, "the launches of both");

  expect(bnb_metal_play(device, launches, count, nullptr, nullptr) == BNB_ERROR_INVALID_ARGUMENT && says("temporary is NULL"),
         "no temporary memory");
  expect(bnb_metal_play(device, launches, count, memory.buffer, recorder) == BNB_ERROR_INVALID_ARGUMENT, "no queue");
  expect(bnb_metal_play(device, nullptr, 1, nullptr, nullptr) == BNB_ERROR_INVALID_ARGUMENT, "no launches");
  expect(bnb_metal_play(device, launches, -1, nullptr, nullptr) == BNB_ERROR_INVALID_ARGUMENT, "fewer than none");
  expect(bnb_metal_play(device, nullptr, 0, nullptr, nullptr) == BNB_OK, "nothing to run");
  expect(bnb_metal_play({kDLMetal, 1 - device.device_id}, launches, count, memory.buffer, nullptr) == BNB_ERROR_INVALID_ARGUMENT,
         "another device");
  expect(bnb_metal_play(kHost, launches, count, nullptr, nullptr) == BNB_ERROR_INVALID_ARGUMENT, "no device of Metal");
  bnb_metal_launch strange = launches[0];
  strange.source = "kernel void nothing() {}";
  expect(bnb_metal_play(device, &strange, 1, memory.buffer, nullptr) == BNB_ERROR_INVALID_ARGUMENT && says("no kernel file"),
         "the kernels of somebody else");
  expect(bnb_synchronize(device, recorder) == BNB_ERROR_INVALID_ARGUMENT && says("bnb_metal_recorder()"), "a service");
  expect(bnb_copy(kHost, &bytes, device, memory.buffer, 1, recorder) == BNB_ERROR_INVALID_ARGUMENT, "a copy");
  expect(!bnb_metal_take(nullptr, &bytes) && says("count is NULL"), "nowhere to say how many");
}

}  // namespace

int main() {
  for (int32_t id : {0, 1}) {
    for (int64_t blocksize : {kOdd, int64_t(64)}) check_operations({kDLMetal, id}, blocksize);
    check_lists({kDLMetal, id});
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
