// SPDX-License-Identifier: MIT
// The scheduler of emulated thread blocks.
#include "grid.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "fiber.h"

namespace simt {
namespace {

enum class State : uint8_t { kReady, kAtBarrier, kAtWarp, kDone };

struct Warp {
  Site site;
  int lanes, arrived;
  uint32_t epoch;
  void *records[kWave];
};

struct Slot {
  Thread thread;
  State state;
  Site site;  // where it waits
  Fiber fiber;
};

// One launch at a time runs, whichever thread of the host it comes from.
std::mutex &launching() {
  static std::mutex mutex;
  return mutex;
}

struct Machine {
  Slot slots[kMaxThreads];
  Warp warps[kMaxThreads / kWave];
  alignas(1024) char shared[kMaxShared];
  char *stacks;
  char problem[400];
  bool stopped;
  int64_t launches;
  uint16_t turns[kMaxThreads];  // who comes when
  void (*kernel)(const void *);
  const void *closure;
  uintptr_t host_stack;
};

Machine *the_machine = nullptr;  // never freed: threads of the host may outlive main()

Machine &machine() { return *the_machine; }

void make_machine() {
  if (the_machine) return;
  the_machine = new Machine{};
  the_machine->stacks = make_stacks(kMaxThreads);
}

Slot *running = nullptr;

[[noreturn]] void pause_forever() {
  for (;;) running->fiber.pause();
}

void enter() {
  Machine &m = machine();
  m.kernel(m.closure);
  running->state = State::kDone;
  pause_forever();
}

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

// In which order the threads of a block take turns between barriers. What depends on it is a race: launches take turns, too.
int order_of(int64_t launch) { return int((uint64_t(launch) * 0x9E3779B97F4A7C15u) >> 33) % 3; }
int turn(int order, int i, int threads) {
  if (order == 0) return i;
  if (order == 1) return threads - 1 - i;
  // 7 shares no factor with block sizes, which are multiples of 32 or small
  return int((int64_t(i) * (threads % 7 ? 7 : 1) + threads / 3) % threads);
}

void report(const char *format, va_list args) {
  Machine &m = machine();
  if (m.stopped) return;
  m.stopped = true;
  const int used = std::snprintf(m.problem, sizeof m.problem, "block %u: ", position.block);
  std::vsnprintf(m.problem + used, sizeof m.problem - size_t(used), format, args);
}

__attribute__((format(printf, 1, 2))) void report(const char *format, ...) {
  va_list args;
  va_start(args, format);
  report(format, args);
  va_end(args);
}

const char *name_of(State state) {
  switch (state) {
    case State::kAtBarrier: return "waits at a barrier";
    case State::kAtWarp: return "waits for its warp";
    case State::kDone: return "has ended";
    default: return "runs";
  }
}

// Nobody can run: either all are at one barrier, or two of them show what is wrong.
bool release_barrier(int threads) {
  Machine &m = machine();
  const Slot &first = m.slots[0];
  for (int i = 0; i < threads; ++i) {
    const Slot &slot = m.slots[i];
    if (slot.state == State::kAtBarrier && first.state == State::kAtBarrier && same(slot.site, first.site)) continue;
    const Slot &other = first.state == State::kAtBarrier || i == 0 ? slot : first;
    const Slot &one = &other == &first ? m.slots[threads - 1] : first;
    report("divergent: thread %u %s (%s:%d), thread %u %s (%s:%d)", one.thread.index, name_of(one.state), one.site.file,
           one.site.line, other.thread.index, name_of(other.state), other.site.file, other.site.line);
    return false;
  }
  ++times.now;
  for (int i = 0; i < threads; ++i) m.slots[i].state = State::kReady;
  return true;
}

// Those of these turns that are ready, until they wait. How many were.
int run_ready(int begin, int end, int *done) {
  Machine &m = machine();
  int ran = 0;
  for (int i = begin; i < end && !m.stopped; ++i) {
    Slot &slot = m.slots[m.turns[i]];
    if (slot.state != State::kReady) continue;
    ++ran;
    running = &slot;
    current = &slot.thread;
    slot.fiber.resume();
    *done += slot.state == State::kDone;
  }
  return ran;
}

void run_block(int threads) {
  Machine &m = machine();
  std::memset(m.shared, 0xCD, 256);  // garbage, as it is on a device
  times.block = ++times.now;
  for (int i = 0; i < threads; ++i) {
    Slot &slot = m.slots[i];
    slot.fiber.set_stack(m.stacks + size_t(i) * kStackStride, size_t(i) % 32 * 128);  // tops in different sets of the cache
    slot.thread = {uint32_t(i), uint32_t(i / kWave), uint32_t(i % kWave)};
    slot.state = State::kReady;
    slot.site = {"", 0};
    slot.fiber.reset(enter);
  }
  for (int w = 0; w * kWave < threads; ++w) {
    Warp &warp = m.warps[w];
    warp.lanes = threads - w * kWave < kWave ? threads - w * kWave : kWave;
    warp.arrived = 0;
    warp.epoch = 0;
  }
  for (int done = 0; done < threads && !m.stopped;) {
    int ran = 0;
    // A warp goes on for as long as it can: its stacks are in the cache.
    for (int begin = 0; begin < threads && !m.stopped; begin += kWave) {
      const int end = begin + kWave < threads ? begin + kWave : threads;
      for (int went = 1; went > 0 && !m.stopped; ran += went) went = run_ready(begin, end, &done);
    }
    if (ran == 0 && !m.stopped && !release_barrier(threads)) return;
  }
}

}  // namespace

const Thread *current = nullptr;
Position position;
Times times;

const char *run(const Shape &shape, void (*kernel)(const void *), const void *closure) {
  const std::lock_guard<std::mutex> guard(launching());
  make_machine();
  Machine &m = machine();
  m.problem[0] = 0;
  m.stopped = false;
  if (shape.threads < 1 || shape.threads > kMaxThreads || shape.shared_bytes > kMaxShared || shape.blocks > INT32_MAX) {
    std::snprintf(m.problem, sizeof m.problem, "no GPU launches %lld blocks of %d threads with %zu bytes",
                  (long long)shape.blocks, shape.threads, shape.shared_bytes);
    return m.problem;
  }
  m.kernel = kernel;
  m.closure = closure;
  m.host_stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const int order = order_of(++m.launches);
  for (int i = 0; i < shape.threads; ++i) m.turns[i] = uint16_t(turn(order, i, shape.threads));
  times.launch = ++times.now;
  for (int64_t i = 0; i < shape.blocks && !m.stopped; ++i) {
    position = {uint32_t(i), uint32_t(shape.blocks), uint32_t(shape.threads)};
    run_block(shape.threads);
  }
  current = nullptr;
  return m.problem;
}

void *shared_memory() { return machine().shared; }

void block_barrier(Site site) {
  running->state = State::kAtBarrier;
  running->site = site;
  running->fiber.pause();
}

void meet(Site site, void *record, void (*resolve)(void **records, int lanes)) {
  Machine &m = machine();
  Warp &warp = m.warps[running->thread.warp];
  if (warp.arrived == 0) {
    warp.site = site;
  } else if (!same(warp.site, site)) {
    stop("divergent: lane %u of warp %u is at %s:%d, another at %s:%d", running->thread.lane, running->thread.warp,
         site.file, site.line, warp.site.file, warp.site.line);
  }
  warp.records[running->thread.lane] = record;
  running->site = site;
  if (++warp.arrived < warp.lanes) {
    running->state = State::kAtWarp;
    running->fiber.pause();
    return;
  }
  resolve(warp.records, warp.lanes);
  warp.arrived = 0;
  ++warp.epoch;
  Slot *lanes = m.slots + running->thread.warp * uint32_t(kWave);
  for (int i = 0; i < warp.lanes; ++i) lanes[i].state = State::kReady;
}

void stop(const char *format, ...) {
  va_list args;
  va_start(args, format);
  report(format, args);
  va_end(args);
  pause_forever();
}

uint32_t warp_epoch(uint32_t warp) { return machine().warps[warp].epoch; }

Home home_of(uintptr_t address) {
  constexpr uintptr_t kFrames = 64 << 10;  // of the functions above run()
  const Machine &m = machine();
  if (address - reinterpret_cast<uintptr_t>(m.shared) < kMaxShared) return Home::kShared;
  if (address - reinterpret_cast<uintptr_t>(m.stacks) < kMaxThreads * kStackStride) return Home::kMachine;
  if (address - reinterpret_cast<uintptr_t>(&m) < sizeof m) return Home::kMachine;
  return address - m.host_stack < kFrames ? Home::kArguments : Home::kElsewhere;
}

}  // namespace simt
