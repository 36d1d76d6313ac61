// SPDX-License-Identifier: MIT
// Deterministic fuzzing: step i is made from seed + i, so any of them can be run again alone.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "conformance/crash.h"
#include "fuzz.h"

namespace {

constexpr char kUsage[] = "usage: fuzz [--seed N] [--count N] [--seconds N]\n";

struct Options {
  uint64_t seed = 1;
  int64_t count = 200000;
  double seconds = 15;
};

bool parse(int argc, char **argv, Options *options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) {
      options->seed = std::strtoull(argv[i + 1], nullptr, 0);
    } else if (std::strcmp(argv[i], "--count") == 0) {
      options->count = std::strtoll(argv[i + 1], nullptr, 0);
    } else if (std::strcmp(argv[i], "--seconds") == 0) {
      options->seconds = std::strtod(argv[i + 1], nullptr);
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

// A function that nothing was tried with is a hole in the suite.
int64_t report(const fuzz::Tallies &tallies) {
  int64_t missing = 0;
  for (const auto &[name, tally] : tallies) {
    std::printf("%8lld accepted %8lld refused %6lld not run  %s\n", (long long)tally.accepted, (long long)tally.refused,
                (long long)tally.not_run, name.c_str());
  }
  for (int i = 0; fuzz::kDeclaredFunctions[i]; ++i) {
    const char *name = fuzz::kDeclaredFunctions[i];
    if (std::strncmp(name, "bnb_", 4) == 0 || tallies.count(name)) continue;
    std::printf("%s was not tried\n", name);
    ++missing;
  }
  return missing;
}

}  // namespace

int main(int argc, char **argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  conformance::name_the_case_on_a_crash();
  fuzz::Tallies tallies;
  int64_t step = 0, failed = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  for (; step < options.count && failed < 10 && (step % 64 != 0 || seconds() < options.seconds); ++step) {
    const uint64_t seed = options.seed + uint64_t(step);
    char name[64];
    std::snprintf(name, sizeof name, "fuzz --count 1 --seed %llu", (unsigned long long)seed);
    conformance::now_running(name, "the active instruction set");
    conformance::Random random(seed);
    const std::string problem = fuzz::fuzz_one(random, &tallies);
    if (problem.empty()) continue;
    ++failed;
    std::printf("FAIL %s\n     %s\n", name, problem.c_str());
  }
  const int64_t missing = options.count > 10000 && step > 10000 ? report(tallies) : 0;
  std::printf("seeds %llu to %llu, %.0f s\n%lld passed, %lld failed\n", (unsigned long long)options.seed,
              (unsigned long long)options.seed + uint64_t(step) - 1, seconds(), (long long)(step - failed),
              (long long)(failed + missing));
  return failed || missing ? 1 : 0;
}
