// SPDX-License-Identifier: MIT
// The thread pool. Started at first use, never destroyed; a forked child starts its own.
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>

#include <bnb/bnb.h>

#include "core/ops.h"
#include "core/status.h"
#include "cpu/float_environment.h"
#include "cpu/os.h"

namespace bnb::cpu {
namespace {

// Work below this many bytes is done before a sleeping thread is awake.
constexpr int64_t kWorthwhileBytes = 128 << 10;

// Chunks are large enough to hide the counter they are taken from, and enough of them evens out unequal threads.
constexpr int64_t kLeastChunkBytes = 64 << 10, kMostChunkBytes = 1 << 20;
constexpr int kChunksPerThread = 8;

// How long a thread that waits stays awake: waking it would take about as long. It is not longer, because other pools may
// want the processor.
constexpr std::chrono::microseconds kAwake{20};

struct Job {
  void (*body)(const void *, int64_t, int64_t);
  const void *context;
  int64_t units, chunk;
  std::atomic<int64_t> next{0};
  int helpers_wanted;
  int cpu;  // where the caller is
};

void pause_cpu() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#endif
}

// Waits a little while for `true`.
template <typename Condition>
void spin_until(const Condition &condition) {
  const auto stop = std::chrono::steady_clock::now() + kAwake;
  while (!condition() && std::chrono::steady_clock::now() < stop) pause_cpu();
}

void work(Job &job) {
  const DefaultFloatEnvironment environment;
  for (;;) {
    const int64_t begin = job.next.fetch_add(job.chunk, std::memory_order_relaxed);
    if (begin >= job.units) return;
    const int64_t end = job.units - begin > job.chunk ? begin + job.chunk : job.units;
    job.body(job.context, begin, end);
  }
}

struct Pool {
  std::mutex busy;  // held by the caller whose job runs
  std::mutex mutex;
  std::condition_variable wake, done;
  Job *job = nullptr;  // changed under the mutex, like all below
  std::atomic<uint64_t> generation{0};
  std::atomic<int> helpers_in{0};  // threads that took the current job and have not finished it
  int started = 0;                 // helper threads that exist
};

void help(void *raw) {
  Pool &pool = *static_cast<Pool *>(raw);
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(pool.mutex);
  for (;;) {
    pool.wake.wait(lock, [&] { return pool.job && pool.generation != seen && pool.job->helpers_wanted > 0; });
    seen = pool.generation;
    Job &job = *pool.job;
    --job.helpers_wanted;
    ++pool.helpers_in;
    lock.unlock();
    // Threads of other pools (PyTorch's) stay awake for long and make CPUs look busy that do nothing. The system may then wake
    // a helper where the caller is, where it is of no use.
    if (job.cpu >= 0 && job.cpu == current_cpu()) leave_cpu(job.cpu);
    work(job);
    lock.lock();
    if (--pool.helpers_in == 0) pool.done.notify_one();
    lock.unlock();
    spin_until([&] { return pool.generation.load(std::memory_order_relaxed) != seen; });
    lock.lock();
  }
}

std::atomic<Pool *> current{nullptr};
std::atomic<int32_t> requested_threads{0};

// The threads of the parent do not exist in a forked child, and its locks may be held by them: leave all of it behind.
void forget_pool() { current.store(nullptr, std::memory_order_relaxed); }

Pool *get_pool() {
  Pool *pool = current.load(std::memory_order_acquire);
  if (pool) return pool;
  Pool *made = new (std::nothrow) Pool;
  if (!made) return nullptr;
  if (!current.compare_exchange_strong(pool, made, std::memory_order_acq_rel)) {
    delete made;
    return pool;
  }
  static const bool registered = (call_in_child_after_fork(forget_pool), true);
  (void)registered;
  return made;
}

int32_t default_threads() {
  static const int32_t count = [] {
    if (const char *text = std::getenv("BNB_NUM_THREADS")) {
      const long value = std::strtol(text, nullptr, 10);
      if (value >= 1) return int32_t(value < kMaxThreads ? value : kMaxThreads);
    }
    const int cpus = usable_cpus();
    return int32_t(cpus < kMaxThreads ? cpus : kMaxThreads);
  }();
  return count;
}

void run(Pool &pool, Job &job, int threads) {
  {
    std::lock_guard<std::mutex> lock(pool.mutex);
    while (pool.started < threads - 1 && start_thread(help, &pool)) ++pool.started;
    job.helpers_wanted = threads - 1;
    pool.job = &job;
    ++pool.generation;
  }
  if (threads == 2) {
    pool.wake.notify_one();
  } else {
    pool.wake.notify_all();
  }
  work(job);
  {
    std::lock_guard<std::mutex> lock(pool.mutex);
    pool.job = nullptr;  // a helper that has not come yet is not needed any more
  }
  const auto finished = [&] { return pool.helpers_in.load(std::memory_order_acquire) == 0; };
  spin_until(finished);
  std::unique_lock<std::mutex> lock(pool.mutex);
  pool.done.wait(lock, finished);
}

}  // namespace

void parallel_for(int64_t units, int64_t unit_bytes, int64_t multiple,
                  void (*body)(const void *context, int64_t begin, int64_t end), const void *context) {
  if (units <= 0) return;
  if (unit_bytes < 1) unit_bytes = 1;
  const int32_t limit = bnb_get_num_threads();
  // In whole numbers: the caller's floating-point environment may trap.
  const int64_t fair = ceil_div(units, int64_t(limit) * kChunksPerThread);
  const int64_t least = ceil_div(kLeastChunkBytes, unit_bytes), most = ceil_div(kMostChunkBytes, unit_bytes);
  int64_t chunk = ceil_div(std::clamp(fair, least, most), multiple) * multiple;
  if (chunk > units) chunk = units;
  const int64_t chunks = ceil_div(units, chunk);
  const int threads = int(chunks < limit ? chunks : limit);

  Job job{body, context, units, chunk, {}, 0, current_cpu()};
  if (threads > 1 && unit_bytes >= kWorthwhileBytes / units) {
    if (Pool *pool = get_pool()) {
      std::unique_lock<std::mutex> busy(pool->busy, std::try_to_lock);
      if (busy.owns_lock()) return run(*pool, job, threads);
    }
  }
  work(job);
}

}  // namespace bnb::cpu

bnb_status bnb_set_num_threads(int32_t num_threads) {
  if (num_threads < 0 || num_threads > bnb::cpu::kMaxThreads) {
    return bnb::fail(BNB_ERROR_INVALID_ARGUMENT, "bnb_set_num_threads: num_threads is %d, must be 0 to %d", num_threads,
                     bnb::cpu::kMaxThreads);
  }
  bnb::cpu::requested_threads.store(num_threads, std::memory_order_relaxed);
  return BNB_OK;
}

int32_t bnb_get_num_threads(void) {
  const int32_t requested = bnb::cpu::requested_threads.load(std::memory_order_relaxed);
  return requested ? requested : bnb::cpu::default_threads();
}
