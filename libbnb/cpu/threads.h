// SPDX-License-Identifier: MIT
// One pool of threads for the whole library: it cuts a range of work units into chunks that idle threads take in turn.
#ifndef BNB_CPU_THREADS_H_
#define BNB_CPU_THREADS_H_

#include <cstdint>

namespace bnb::cpu {

inline constexpr int kMaxThreads = 256;  // that one operation may use

// Calls body(context, begin, end) over [0, units), on several threads if the work is worth it. Every chunk but the last is a
// multiple of `multiple` units. `unit_bytes` is about what one unit reads and writes: small work stays on the calling thread,
// and so does work that arrives while the pool is busy with another caller's. Returns when all of it is done. Runs
// every chunk in the default floating-point environment.
void parallel_for(int64_t units, int64_t unit_bytes, int64_t multiple,
                  void (*body)(const void *context, int64_t begin, int64_t end), const void *context);

template <typename Body>
inline void parallel_for(int64_t units, int64_t unit_bytes, int64_t multiple, const Body &body) {
  parallel_for(
      units, unit_bytes, multiple,
      [](const void *context, int64_t begin, int64_t end) { (*static_cast<const Body *>(context))(begin, end); }, &body);
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_THREADS_H_
