// SPDX-License-Identifier: MIT
// A grid of thread blocks on the host: every thread is a fiber, blocks run one after the other, and what a GPU leaves undefined
// (a barrier that some threads never reach, lanes of a warp at different operations) ends the launch with words.
#ifndef TESTS_SIMT_GRID_H_
#define TESTS_SIMT_GRID_H_

#include <cstddef>
#include <cstdint>

#ifndef BNB_SIMT_WAVE
#error "BNB_SIMT_WAVE is the number of lanes of a warp: 32 or 64"
#endif

namespace simt {

inline constexpr int kWave = BNB_SIMT_WAVE;
inline constexpr int kMaxThreads = 1024;        // of a block
inline constexpr size_t kMaxShared = 227 << 10;  // dynamic shared memory of a block, the most that any GPU of today has

struct Shape {
  int64_t blocks;
  int threads;
  size_t shared_bytes;
};

// Runs kernel(closure) on every thread of the grid. Returns "" or what went wrong; the text lives until the next launch.
const char *run(const Shape &shape, void (*kernel)(const void *closure), const void *closure);

template <typename Body>
const char *run(const Shape &shape, const Body &body) {
  return run(shape, [](const void *closure) { (*static_cast<const Body *>(closure))(); }, &body);
}

// A place in the source: threads that wait together must wait at the same one.
struct Site {
  const char *file;
  int line;
  // As a default argument: the place of the call.
  static constexpr Site here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// What the running thread knows of itself.
struct Thread {
  uint32_t index, warp, lane;
};
struct Position {
  uint32_t block, blocks, threads;
};
extern const Thread *current;
extern Position position;

void *shared_memory();  // dynamic, of the running block; its bytes are garbage at first

void block_barrier(Site site);

// Meets the other lanes of the warp. The last one to come calls resolve(records, lanes): record i is that of lane i.
void meet(Site site, void *record, void (*resolve)(void **records, int lanes));

// Ends the launch: the running thread found something wrong.
[[noreturn]] void stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

// For the checker of memory accesses: when things happened, counted over launches, blocks and barriers of blocks together, from 1.
struct Times {
  uint32_t now, launch, block;  // the last of them all, and when the running launch and the running block began
};
extern Times times;
uint32_t warp_epoch(uint32_t warp);  // meetings of its lanes since its block began
// What an address is of: dynamic shared memory; stacks of threads and what the scheduler knows of them; the arguments of a launch, which
// lie on the stack of the host's thread; or something else.
enum class Home { kShared, kMachine, kArguments, kElsewhere };
Home home_of(uintptr_t address);

}  // namespace simt

#endif  // TESTS_SIMT_GRID_H_
