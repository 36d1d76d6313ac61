// SPDX-License-Identifier: MIT
// The conformance suite: every case of every operation, on every instruction set and device, against the CPU's
// "reference".
#ifndef TESTS_CONFORMANCE_SUITE_H_
#define TESTS_CONFORMANCE_SUITE_H_

#include <map>
#include <string>

#include "memory.h"
#include "random.h"

namespace conformance {

// Where a case runs: a CPU instruction set, or a device.
struct Target {
  std::string name;  // "cpu/avx2", "cuda:0"
  DLDevice device;
  const char *isa;  // NULL on devices
};

struct Options {
  bool list = false, bench = false, slow = false, quick = false, verbose = false;
  int64_t bench_elements = 16 << 20;
  std::string filter, target;
  uint64_t seed = 1;
};

class Suite {
 public:
  explicit Suite(Options options);

  bool quick() const { return options_.quick; }  // under an emulator: fewer and smaller cases
  bool slow() const { return options_.slow; }
  int64_t bench_elements() const { return options_.bench_elements; }
  const std::vector<Target> &targets() const { return targets_; }

  // Whether a backend of the library that such targets belong to has no device: says so.
  bool without_device(const std::string &target) const;

  // The functions of the cases until the next family take addresses.
  void take_addresses() { use_managed_memory_for_handles(true); }
  void begin_family() { use_managed_memory_for_handles(false); }

  // One case: the call that `make` describes gives the reference's results on every target and in every placement.
  // `make` is given random numbers that depend on the case's name and the seed alone.
  using Make = std::function<Call(Random &)>;
  void check(const std::string &name, const Make &make);

  // One case that compares in its own way: returns "" or what is wrong.
  using Test = std::function<std::string(const Target &, Random &)>;
  void check_on_each(const std::string &name, const Test &test);

  // One row of --bench. bytes: what the call has to read and write.
  void bench(const std::string &name, double bytes, const Make &make);

  bool finish();  // prints the summary line; true if nothing failed

 private:
  bool selected(const std::string &name, const Target *target) const;
  void record(const std::string &name, const Target &target, const std::string &problem);
  void skip(const std::string &reason);

  Options options_;
  std::vector<Target> targets_;
  Target reference_;
  int64_t passed_ = 0, failed_ = 0, skipped_ = 0;
  std::map<std::string, int64_t> skip_reasons_;
};

// Runs a call on a target and gives back the content of its tensors (empty for inputs).
// Returns "" or what went wrong; "UNSUPPORTED: ..." where the target has no kernel.
std::string run(const Call &call, const Target &target, const Placement &placement, std::vector<Bytes> *results);

// "" or the first place where two results of a call differ.
std::string compare(const Call &call, const std::vector<Bytes> &got, const std::vector<Bytes> &want);

extern const Placement kPlain;  // data at the start of a page, one thread

// Registers the cases of an operation family: CONFORMANCE(fourbit) { suite.check(...); }
struct Family {
  const char *name;
  void (*cases)(Suite &suite);
};
std::vector<Family> &families();

#define CONFORMANCE(name)                                                                                   \
  static void name##_cases(::conformance::Suite &suite);                                                    \
  static const bool name##_registered = (::conformance::families().push_back({#name, name##_cases}), true); \
  static void name##_cases(::conformance::Suite &suite)

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SUITE_H_
