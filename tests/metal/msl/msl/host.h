// SPDX-License-Identifier: MIT
// Where a running kernel gets its arguments: tests/metal/host_source.py gives every parameter one of these as its default argument, in
// place of its attribute.
#ifndef TESTS_METAL_MSL_HOST_H_
#define TESTS_METAL_MSL_HOST_H_

namespace metal_host {

void *buffer(int index);              // stops the launch if none was set
void *threadgroup_memory(int index);

struct PointerArgument {
  void *address;
  template <typename T>
  operator T *() const { return (T *)address; }
};
struct ReferenceArgument {
  void *address;
  template <typename T>
  operator MSL_CONSTANT T &() const { return *(MSL_CONSTANT T *)address; }
};

inline PointerArgument pointer_buffer(int index) { return {buffer(index)}; }
inline ReferenceArgument reference_buffer(int index) { return {buffer(index)}; }
inline PointerArgument pointer_threadgroup(int index) { return {threadgroup_memory(index)}; }

// Attributes without arguments.
uint attribute_thread_position_in_threadgroup();
uint attribute_thread_index_in_threadgroup();
uint attribute_thread_position_in_grid();
uint attribute_threads_per_threadgroup();
uint attribute_threadgroup_position_in_grid();
uint attribute_threadgroups_per_grid();
uint attribute_thread_index_in_simdgroup();
uint attribute_simdgroup_index_in_threadgroup();
uint attribute_simdgroups_per_threadgroup();
uint attribute_threads_per_simdgroup();

// Makes a kernel known under its host_name.
struct Registered {
  Registered(const char *file, int language, const char *name, void (*body)());
};

// The machine: simt/grid.h, without the standard headers that it includes.
struct Site {
  const char *file;
  int line;
};
void wait_for_threadgroup(Site site);
void meet(Site site, void *record, void (*resolve)(void **records, int lanes));
uint lane();
[[noreturn]] void stop(const char *text);

}  // namespace metal_host

// Functions that only see what threads have for themselves and what the machine holds: no access of a kernel that had to be watched.
#define MSL_UNWATCHED __attribute__((no_sanitize_thread))

#define MSL_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#endif  // TESTS_METAL_MSL_HOST_H_
