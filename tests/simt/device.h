// SPDX-License-Identifier: MIT
// The words of libbnb/gpu/compat.h on the host.
#ifndef TESTS_SIMT_DEVICE_H_
#define TESTS_SIMT_DEVICE_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats/portable.h"
#include "simt/grid.h"

#define BNB_KERNEL static
#define BNB_DEVICE static inline
#define BNB_DEVICE_METHOD inline
#define BNB_SHARED static  // blocks run one after the other, so that one instance is enough
#define BNB_THREADS(threads)
#define BNB_UNROLL

// Where a kernel waits, for messages.
#define SIMT_SITE ::simt::Site site = ::simt::Site::here()

namespace bnb::gpu {

constexpr int kWarp = simt::kWave;

BNB_DEVICE uint32_t thread_index() { return simt::current->index; }
BNB_DEVICE uint32_t thread_count() { return simt::position.threads; }
BNB_DEVICE uint32_t grid_index() { return simt::position.block; }
BNB_DEVICE uint32_t grid_count() { return simt::position.blocks; }
BNB_DEVICE uint32_t lane_index() { return simt::current->lane; }
BNB_DEVICE uint32_t warp_index() { return simt::current->warp; }
BNB_DEVICE void *dynamic_shared() { return simt::shared_memory(); }

BNB_DEVICE void barrier(SIMT_SITE) { simt::block_barrier(site); }
BNB_DEVICE void warp_barrier(SIMT_SITE) {
  simt::meet(site, nullptr, [](void **, int) {});
}

template <typename T>
struct Exchange {
  T mine, theirs;
  int from;
};
template <typename T>
static T exchange(simt::Site site, T x, int from) {
  Exchange<T> record{x, x, from};
  simt::meet(site, &record, [](void **records, int lanes) {
    for (int i = 0; i < lanes; ++i) {
      auto *to = static_cast<Exchange<T> *>(records[i]);
      if (to->from >= 0 && to->from < lanes) to->theirs = static_cast<Exchange<T> *>(records[to->from])->mine;
    }
  });
  return record.theirs;
}
template <typename T>
BNB_DEVICE T shuffle(T x, int lane, SIMT_SITE) { return exchange(site, x, lane % kWarp); }
template <typename T>
BNB_DEVICE T shuffle_xor(T x, int mask, SIMT_SITE) { return exchange(site, x, int(lane_index()) ^ mask); }
template <typename T>
BNB_DEVICE T shuffle_down(T x, int delta, SIMT_SITE) { return exchange(site, x, int(lane_index()) + delta); }

BNB_DEVICE uint64_t ballot(bool condition, SIMT_SITE) {
  struct Vote {
    bool mine;
    uint64_t all;
  } vote{condition, 0};
  simt::meet(site, &vote, [](void **records, int lanes) {
    uint64_t all = 0;
    for (int i = 0; i < lanes; ++i) all |= uint64_t(static_cast<Vote *>(records[i])->mine) << i;
    for (int i = 0; i < lanes; ++i) static_cast<Vote *>(records[i])->all = all;
  });
  return vote.all;
}

BNB_DEVICE uint32_t count_bits(uint64_t bits) { return uint32_t(__builtin_popcountll(bits)); }
BNB_DEVICE uint32_t atomic_max(uint32_t *p, uint32_t x) {
  const uint32_t old = __atomic_load_n(p, __ATOMIC_RELAXED);
  if (x > old) __atomic_store_n(p, x, __ATOMIC_RELAXED);
  return old;
}
BNB_DEVICE uint32_t atomic_add(uint32_t *p, uint32_t x) { return __atomic_fetch_add(p, x, __ATOMIC_RELAXED); }
BNB_DEVICE uint32_t atomic_or(uint32_t *p, uint32_t x) { return __atomic_fetch_or(p, x, __ATOMIC_RELAXED); }
BNB_DEVICE uint32_t atomic_load(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
BNB_DEVICE void atomic_store(uint32_t *p, uint32_t x) { __atomic_store_n(p, x, __ATOMIC_RELAXED); }

}  // namespace bnb::gpu

#endif  // TESTS_SIMT_DEVICE_H_
