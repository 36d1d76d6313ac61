// SPDX-License-Identifier: MIT
// POSIX and Windows versions of cpu/os.h.
#include "cpu/os.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

namespace bnb::cpu {
namespace {

struct Start {
  void (*body)(void *);
  void *context;
};

constexpr size_t kHugePage = size_t(2) << 20;

}  // namespace

#if defined(_WIN32)

int usable_cpus() {
  const DWORD count = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
  return count ? int(count) : 1;
}

bool start_thread(void (*body)(void *), void *context) {
  Start *start = static_cast<Start *>(std::malloc(sizeof(Start)));
  if (!start) return false;
  *start = {body, context};
  const uintptr_t handle = _beginthreadex(
      nullptr, 0,
      [](void *raw) -> unsigned {
        const Start run = *static_cast<Start *>(raw);
        std::free(raw);
        run.body(run.context);
        return 0;
      },
      start, 0, nullptr);
  if (!handle) {
    std::free(start);
    return false;
  }
  CloseHandle(reinterpret_cast<HANDLE>(handle));
  return true;
}

int current_cpu() { return -1; }
void leave_cpu(int) {}

void call_in_child_after_fork(void (*)()) {}

void *allocate_pages(size_t bytes) { return _aligned_malloc(bytes, 64); }
void release_pages(void *data) { _aligned_free(data); }

#else

namespace {

#if defined(__linux__)
// CPUs that the cgroup's quota amounts to, rounded up; 0 if there is none. Version 2 puts both numbers in one file, version 1 in
// two. A container sees its own group at the root of the mount.
int cgroup_cpus() {
  long long quota = -1, period = -1;
  if (std::FILE *file = std::fopen("/sys/fs/cgroup/cpu.max", "re")) {
    if (std::fscanf(file, "%lld %lld", &quota, &period) != 2) quota = -1;
    std::fclose(file);
  } else {
    if (std::FILE *q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re")) {
      if (std::fscanf(q, "%lld", &quota) != 1) quota = -1;
      std::fclose(q);
    }
    if (std::FILE *p = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re")) {
      if (std::fscanf(p, "%lld", &period) != 1) period = -1;
      std::fclose(p);
    }
  }
  if (quota <= 0 || period <= 0) return 0;
  const long long cpus = (quota + period - 1) / period;
  return cpus > 4096 ? 4096 : int(cpus);
}
#endif

void *run_start(void *raw) {
  const Start run = *static_cast<Start *>(raw);
  std::free(raw);
  run.body(run.context);
  return nullptr;
}

}  // namespace

int usable_cpus() {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const int quota = cgroup_cpus();
  if (quota && quota < count) count = quota;
#endif
  return count < 1 ? 1 : int(count);
}

bool start_thread(void (*body)(void *), void *context) {
  Start *start = static_cast<Start *>(std::malloc(sizeof(Start)));
  if (!start) return false;
  *start = {body, context};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, run_start, start) != 0) {
    std::free(start);
    return false;
  }
  pthread_detach(thread);
  return true;
}

#if defined(__linux__)
int current_cpu() { return sched_getcpu(); }
void leave_cpu(int cpu) {
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0 || !CPU_ISSET(cpu, &all) || CPU_COUNT(&all) < 2) return;
  cpu_set_t others = all;
  CPU_CLR(cpu, &others);
  if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof all, &all);
}
#else
int current_cpu() { return -1; }
void leave_cpu(int) {}
#endif

void call_in_child_after_fork(void (*handler)()) { pthread_atfork(nullptr, nullptr, handler); }

void *allocate_pages(size_t bytes) {
  const bool large = bytes >= 2 * kHugePage;
  void *data = nullptr;
  if (posix_memalign(&data, large ? kHugePage : 64, bytes) != 0) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (large) madvise(data, bytes, MADV_HUGEPAGE);  // a hint: its failure changes nothing
#endif
  return data;
}

void release_pages(void *data) { std::free(data); }

#endif

}  // namespace bnb::cpu
