// SPDX-License-Identifier: MIT
// What the operating system says and does for the CPU backend: usable CPUs, threads, big allocations.
#ifndef BNB_CPU_OS_H_
#define BNB_CPU_OS_H_

#include <cstddef>

namespace bnb::cpu {

int usable_cpus();                                         // affinity mask and cgroup quota taken into account; >= 1
bool start_thread(void (*body)(void *), void *context);    // detached; false if the system has no more
int current_cpu();                                         // the one that the calling thread is on; -1 if unknown
void leave_cpu(int cpu);                                   // the calling thread moves to another one that it may use
void call_in_child_after_fork(void (*handler)());
void *allocate_pages(size_t bytes);                        // aligned to >= 64 bytes, huge pages where they pay; NULL if none
void release_pages(void *data);

}  // namespace bnb::cpu

#endif  // BNB_CPU_OS_H_
