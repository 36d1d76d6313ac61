// SPDX-License-Identifier: MIT
// What the device of the tests knows of kernels: their list, and what a launch gives them.
#ifndef TESTS_METAL_KERNELS_H_
#define TESTS_METAL_KERNELS_H_

namespace metal_host {

struct Site {
  const char *file;
  int line;
};

// The kernel of that name, made for the newest version of the language that is no newer than `language`; NULL if there is none.
using Body = void (*)();
Body find_kernel(const char *file, const char *function, int language);

// Of the launch that runs.
struct Bindings {
  static constexpr int kMost = 31;
  void *buffers[kMost];
};
extern const Bindings *bindings;

// Whether the device takes subnormal numbers for zero, as Metal may.
extern bool flushes_subnormals;

}  // namespace metal_host

#endif  // TESTS_METAL_KERNELS_H_
