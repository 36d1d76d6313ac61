// SPDX-License-Identifier: MIT
// The thread pool: every unit once, whoever calls, however many at once, from inside itself, and on both sides of a
// fork.
#include "cpu/threads.h"

#include <bnb/bnb.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "check.h"

using bnb::cpu::parallel_for;

namespace {

constexpr int64_t kLarge = 1 << 20;  // bytes a unit, so that work is worth sharing

// Runs a job and says whether every unit came exactly once, in chunks as promised.
bool covers(int64_t units, int64_t unit_bytes, int64_t multiple) {
  std::vector<std::atomic<int>> seen(size_t(units > 0 ? units : 0));
  std::atomic<bool> good{true};
  parallel_for(units, unit_bytes, multiple, [&](int64_t begin, int64_t end) {
    if (begin < 0 || begin >= end || end > units || begin % multiple != 0) good = false;
    if (end != units && (end - begin) % multiple != 0) good = false;
    for (int64_t i = begin; i < end; ++i) seen[size_t(i)].fetch_add(1, std::memory_order_relaxed);
  });
  for (const auto &count : seen) {
    if (count.load() != 1) good = false;
  }
  return good;
}

void check_coverage() {
  for (int32_t threads : {1, 2, 3, 8}) {
    CHECK(bnb_set_num_threads(threads) == BNB_OK);
    for (int64_t units : {-1, 0, 1, 2, 7, 64, 1000, 12345}) {
      for (int64_t unit_bytes : {int64_t(0), int64_t(1), int64_t(4096), kLarge, INT64_MAX}) {
        for (int64_t multiple : {1, 2, 64, 4096}) {
          CHECK_THAT(covers(units, unit_bytes, multiple), "%d threads, %lld units of %lld bytes in multiples of %lld",
                     threads, (long long)units, (long long)unit_bytes, (long long)multiple);
        }
      }
    }
  }
}

void check_many_callers() {
  bnb_set_num_threads(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += !covers(50, 300000, 1);
    });
  }
  for (std::thread &caller : callers) caller.join();
  CHECK_THAT(wrong == 0, "%d jobs went wrong", wrong.load());
}

// While other threads work, the number of threads may change under them.
void check_changing_threads() {
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int32_t n = 0; !stop; n = (n + 1) % 5) bnb_set_num_threads(n);
  });
  int wrong = 0;
  for (int i = 0; i < 300; ++i) wrong += !covers(50, 300000, 1);
  stop = true;
  changer.join();
  CHECK_THAT(wrong == 0, "%d jobs went wrong", wrong);
}

void check_nested() {
  bnb_set_num_threads(4);
  std::atomic<int> wrong{0};
  parallel_for(16, kLarge, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) wrong += !covers(20, kLarge, 1);
  });
  CHECK_THAT(wrong == 0, "%d inner jobs went wrong", wrong.load());
}

bool works() {
  for (int i = 0; i < 20; ++i) {
    if (!covers(64, kLarge, 1)) return false;
  }
  return true;
}

// Whether a forked child can work, with all its threads, and can fork again.
bool child_works(int generations) {
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    alarm(60);  // a child that waits for threads it does not have dies
    _exit(works() && (generations == 0 || child_works(generations - 1)) && works() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void check_fork() {
  bnb_set_num_threads(4);
  CHECK(works());
  CHECK(child_works(2));
  CHECK(works());
}

// The pool is busy with other threads' work at the moment of the fork.
void check_fork_while_busy() {
  bnb_set_num_threads(4);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < 3; ++t) {
    workers.emplace_back([&] {
      while (!stop) wrong += !covers(64, kLarge, 1);
    });
  }
  int failed = 0;
  for (int i = 0; i < 30; ++i) failed += !child_works(0);
  stop = true;
  for (std::thread &worker : workers) worker.join();
  CHECK_THAT(failed == 0, "%d of 30 children failed", failed);
  CHECK(wrong == 0);
  CHECK(works());
}

void check_set_num_threads() {
  CHECK(bnb_set_num_threads(-1) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(bnb_set_num_threads(1 << 20) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(bnb_set_num_threads(7) == BNB_OK && bnb_get_num_threads() == 7);
  CHECK(bnb_set_num_threads(0) == BNB_OK && bnb_get_num_threads() >= 1);
}

}  // namespace

int main() {
  unit::run("every unit once", check_coverage);
  unit::run("many callers", check_many_callers);
  unit::run("changing number of threads", check_changing_threads);
  unit::run("nested use", check_nested);
  unit::run("fork", check_fork);
  if (unit::kThreadSanitizer) {
    unit::skip("fork while the pool is busy", "ThreadSanitizer does not support threads after a fork of many");
  } else {
    unit::run("fork while the pool is busy", check_fork_while_busy);
  }
  unit::run("bnb_set_num_threads", check_set_num_threads);
  return unit::summary();
}
