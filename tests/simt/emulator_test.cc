// SPDX-License-Identifier: MIT
// The emulator finds what a GPU leaves undefined: races, barriers that some threads never reach, accesses out of bounds, and host
// code that touches memory of the device.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "simt/faulty_kernels.h"
#include "simt/runtime.h"

using namespace simt_tests;

namespace {

constexpr int64_t kBytes = 2 * 128 * sizeof(uint32_t);
int failures = 0;

void expect(bool condition, const char *name, const char *got) {
  if (condition) return;
  ++failures;
  std::printf("FAIL %s: %s\n", name, *got ? got : "nothing was found");
}

struct Arrays {
  uint32_t *a = nullptr, *out = nullptr;
  Arrays() {
    simtMalloc(reinterpret_cast<void **>(&a), kBytes);
    simtMalloc(reinterpret_cast<void **>(&out), kBytes);
    std::vector<uint32_t> numbers(256);
    for (uint32_t i = 0; i < 256; ++i) numbers[i] = i * i;
    simtMemcpyAsync(a, numbers.data(), kBytes, simtMemcpyDefault, nullptr);
    simtMemsetAsync(out, 0, kBytes, nullptr);
  }
  ~Arrays() {
    simtFree(a);
    simtFree(out);
  }
  std::vector<uint32_t> results() const {
    std::vector<uint32_t> copied(256);
    simtMemcpyAsync(copied.data(), out, kBytes, simtMemcpyDefault, nullptr);
    return copied;
  }
};

const char *run_opened(Kernel kernel, const Arrays &arrays) {
  const simt::DeviceMemoryOpen open;
  return run_kernel(kernel, arrays.a, arrays.out, kBytes);
}

// Three times: threads take turns in three orders.
void fault(const char *name, Kernel kernel, const char *word) {
  for (int i = 0; i < 3; ++i) {
    const Arrays arrays;
    const char *said = run_opened(kernel, arrays);
    expect(std::strstr(said, word), name, said);
  }
}

template <typename Right>
void no_fault(const char *name, Kernel kernel, const Right &right) {
  for (int i = 0; i < 3; ++i) {
    const Arrays arrays;
    const char *said = run_opened(kernel, arrays);
    expect(!*said, name, said);
    expect(right(arrays.results()), name, "a wrong result");
  }
}

bool host_access_dies() {
  const Arrays arrays;
  const pid_t child = fork();
  if (child == 0) _exit(int(*const_cast<volatile uint32_t *>(arrays.a)));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status);
}

uint32_t sum_of_block(uint32_t block) {
  uint32_t sum = 0;
  for (uint32_t i = block * 128; i < (block + 1) * 128; ++i) sum += i * i;
  return sum;
}

}  // namespace

int main() {
  const auto sums = [](const std::vector<uint32_t> &out) {
    return out[0] == sum_of_block(0) && out[1] == sum_of_block(1);
  };
  no_fault("sum in shared memory", Kernel::kSharedSum, sums);
  no_fault("sum in registers", Kernel::kRegisterSum, sums);
  no_fault("neighbours in a warp", Kernel::kWarpNeighbours,
           [](const std::vector<uint32_t> &out) { return out[0] == 1 && out[33] == 34 && out[128] == 1; });
  no_fault("blocks that count", Kernel::kBlocksCount, [](const std::vector<uint32_t> &out) { return out[0] == 256; });
  fault("sum without barriers", Kernel::kSharedSumRace, "race");
  fault("neighbours without a warp's barrier", Kernel::kWarpNeighboursRace, "race");
  fault("blocks that write the same place", Kernel::kBlocksRace, "race");
  fault("a barrier for some", Kernel::kSomeAtABarrier, "divergent");
  fault("two barriers at once", Kernel::kTwoBarriers, "divergent");
  fault("a shuffle without one lane", Kernel::kSomeLanes, "divergent");
  fault("a write behind the end", Kernel::kWriteBehind, "out of bounds");
  fault("a read behind the end", Kernel::kReadBehind, "out of bounds");
  expect(host_access_dies(), "the host reads memory of the device", "it may");
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
