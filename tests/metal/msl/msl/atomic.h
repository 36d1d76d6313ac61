// SPDX-License-Identifier: MIT
// Atomics of 32 bits, relaxed: the one order that Metal has.
#ifndef TESTS_METAL_MSL_ATOMIC_H_
#define TESTS_METAL_MSL_ATOMIC_H_

namespace metal {

template <typename T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;

enum memory_order { memory_order_relaxed };

#define MSL_ATOMIC(SPACE, T)                                                                                              \
  inline T atomic_load_explicit(SPACE const atomic<T> *p, memory_order) { return __atomic_load_n(&p->value, __ATOMIC_RELAXED); } \
  inline void atomic_store_explicit(SPACE atomic<T> *p, T x, memory_order) { __atomic_store_n(&p->value, x, __ATOMIC_RELAXED); } \
  inline T atomic_fetch_add_explicit(SPACE atomic<T> *p, T x, memory_order) {                                             \
    return __atomic_fetch_add(&p->value, x, __ATOMIC_RELAXED);                                                            \
  }                                                                                                                       \
  inline T atomic_fetch_or_explicit(SPACE atomic<T> *p, T x, memory_order) {                                              \
    return __atomic_fetch_or(&p->value, x, __ATOMIC_RELAXED);                                                             \
  }                                                                                                                       \
  inline T atomic_fetch_max_explicit(SPACE atomic<T> *p, T x, memory_order) {                                             \
    const T old = __atomic_load_n(&p->value, __ATOMIC_RELAXED);                                                           \
    if (x > old) __atomic_store_n(&p->value, x, __ATOMIC_RELAXED);                                                        \
    return old;                                                                                                           \
  }                                                                                                                       \
  inline T atomic_fetch_min_explicit(SPACE atomic<T> *p, T x, memory_order) {                                             \
    const T old = __atomic_load_n(&p->value, __ATOMIC_RELAXED);                                                           \
    if (x < old) __atomic_store_n(&p->value, x, __ATOMIC_RELAXED);                                                        \
    return old;                                                                                                           \
  }                                                                                                                       \
  inline bool atomic_compare_exchange_weak_explicit(SPACE atomic<T> *p, thread T *expected, T x, memory_order, memory_order) { \
    const T old = __atomic_load_n(&p->value, __ATOMIC_RELAXED);                                                           \
    if (old != *expected) {                                                                                               \
      *expected = old;                                                                                                    \
      return false;                                                                                                       \
    }                                                                                                                     \
    __atomic_store_n(&p->value, x, __ATOMIC_RELAXED);                                                                     \
    return true;                                                                                                          \
  }
MSL_ATOMIC(MSL_DEVICE, int)
MSL_ATOMIC(MSL_DEVICE, uint)
#if defined(MSL_CHECK)
MSL_ATOMIC(MSL_THREADGROUP, int)
MSL_ATOMIC(MSL_THREADGROUP, uint)
#endif
#undef MSL_ATOMIC

}  // namespace metal

#endif  // TESTS_METAL_MSL_ATOMIC_H_
