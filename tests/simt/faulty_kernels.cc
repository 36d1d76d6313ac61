// SPDX-License-Identifier: MIT
// Kernels with one fault each, and ones without: the emulator must find every fault and nothing else.
#include "gpu/compat.h"
#include "simt/faulty_kernels.h"

namespace simt_tests {
namespace {

using namespace bnb::gpu;

constexpr int kThreads = 128;

// Sums of a block's numbers, by halving in shared memory. `Barrier` is the word between the steps.
template <typename Barrier>
BNB_KERNEL void sum_in_shared_memory(const uint32_t *a, uint32_t *sum, Barrier wait) {
  BNB_SHARED uint32_t values[kThreads];
  const uint32_t i = thread_index();
  values[i] = a[grid_index() * kThreads + i];
  wait();
  for (uint32_t half = kThreads / 2; half > 0; half /= 2) {
    if (i < half) values[i] += values[i + half];
    wait();
  }
  if (i == 0) sum[grid_index()] = values[0];
  wait();  // the next block's values are others, but here they lie in the same place
}

BNB_KERNEL void sum_in_registers(const uint32_t *a, uint32_t *sum) {
  uint32_t x = a[grid_index() * kThreads + thread_index()];
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  if (lane_index() == 0) atomic_add(sum + grid_index(), x);
}

BNB_KERNEL void neighbours_in_a_warp(uint32_t *out, bool wait) {
  BNB_SHARED uint32_t values[kThreads];
  const uint32_t i = thread_index(), first = warp_index() * kWarp;
  values[i] = i;
  if (wait) warp_barrier();
  out[grid_index() * kThreads + i] = values[first + (lane_index() + 1) % kWarp];
}

BNB_KERNEL void some_at_a_barrier() {
  if (thread_index() < 7) barrier();
}
BNB_KERNEL void two_barriers() {
  if (thread_index() < 64) {
    barrier();
  } else {
    barrier();
  }
}
BNB_KERNEL void some_lanes() {
  if (lane_index() != 3) shuffle_xor(1, 1);
}
BNB_KERNEL void write_at(uint8_t *a, int64_t i) {
  if (thread_index() == 5) a[i] = 1;
}
BNB_KERNEL void read_at(const uint8_t *a, int64_t i, uint8_t *out) {
  if (thread_index() == 5) out[0] = a[i];
}
BNB_KERNEL void all_blocks_write(uint32_t *a) {
  if (thread_index() == 0) a[0] = grid_index();
}
BNB_KERNEL void all_blocks_count(uint32_t *a) { atomic_add(a, 1); }

struct WithBarrier {
  void operator()() const { barrier(); }
};
struct WithoutBarrier {
  void operator()() const {}
};

}  // namespace

const char *run_kernel(Kernel kernel, uint32_t *a, uint32_t *out, int64_t bytes) {
  return simt::run({2, kThreads, 0}, [=] {
    switch (kernel) {
      case Kernel::kSharedSum: return sum_in_shared_memory(a, out, WithBarrier{});
      case Kernel::kSharedSumRace: return sum_in_shared_memory(a, out, WithoutBarrier{});
      case Kernel::kRegisterSum: return sum_in_registers(a, out);
      case Kernel::kWarpNeighbours: return neighbours_in_a_warp(out, true);
      case Kernel::kWarpNeighboursRace: return neighbours_in_a_warp(out, false);
      case Kernel::kSomeAtABarrier: return some_at_a_barrier();
      case Kernel::kTwoBarriers: return two_barriers();
      case Kernel::kSomeLanes: return some_lanes();
      case Kernel::kWriteBehind: return write_at(reinterpret_cast<uint8_t *>(out), bytes);
      case Kernel::kReadBehind: return read_at(reinterpret_cast<uint8_t *>(out), bytes, reinterpret_cast<uint8_t *>(out));
      case Kernel::kBlocksRace: return all_blocks_write(out);
      case Kernel::kBlocksCount: return all_blocks_count(out);
    }
  });
}

}  // namespace simt_tests
