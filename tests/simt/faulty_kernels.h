// SPDX-License-Identifier: MIT
// The kernels of tests/simt/faulty_kernels.cc, compiled as those of checked libraries are.
#ifndef TESTS_SIMT_FAULTY_KERNELS_H_
#define TESTS_SIMT_FAULTY_KERNELS_H_

#include <cstdint>

namespace simt_tests {

enum class Kernel {
  kSharedSum,
  kSharedSumRace,
  kRegisterSum,
  kWarpNeighbours,
  kWarpNeighboursRace,
  kSomeAtABarrier,
  kTwoBarriers,
  kSomeLanes,
  kWriteBehind,
  kReadBehind,
  kBlocksRace,
  kBlocksCount
};

// Two blocks of 128 threads. a: 256 numbers; out: `bytes` bytes. Both of the device. What the emulator says, "" if nothing.
const char *run_kernel(Kernel kernel, uint32_t *a, uint32_t *out, int64_t bytes);

}  // namespace simt_tests

#endif  // TESTS_SIMT_FAULTY_KERNELS_H_
