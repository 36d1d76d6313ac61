// SPDX-License-Identifier: MIT
// Running cases on targets and keeping count.
#include "suite.h"

#include <fnmatch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "crash.h"

namespace conformance {
namespace {

constexpr Placement kPlacements[] = {
    {"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
    {"at the end of a page, 2 threads", true, 0, false, true, 2, 0x5A},
    {"1 byte off by byte_offset, 5 threads", false, 1, true, false, 5, 0xFF},
};

constexpr int64_t kShownFailures = 20;  // a broken kernel fails a thousand cases in the same way

DLDeviceType type_of(const std::string &backend) {
  if (backend == "cuda") return kDLCUDA;
  if (backend == "hip") return kDLROCM;
  if (backend == "metal") return kDLMetal;
  return kDLCPU;
}

bool matches(const std::string &pattern, const std::string &name) {
  if (pattern.empty()) return true;
  if (pattern.find('*') == std::string::npos) return name.find(pattern) != std::string::npos;
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

// The smallest time of a call: the median over batches of at least a millisecond.
double median_nanoseconds(const std::function<void()> &body) {
  using Clock = std::chrono::steady_clock;
  const auto nanoseconds = [](Clock::duration d) { return double(std::chrono::nanoseconds(d).count()); };
  int64_t repeats = 1;
  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < 5 || nanoseconds(Clock::now() - start) < 0.5e9) {
    const auto begin = Clock::now();
    for (int64_t i = 0; i < repeats; ++i) body();
    const double time = nanoseconds(Clock::now() - begin);
    if (time < 1e6) {
      repeats *= 2;
      times.clear();
      continue;
    }
    times.push_back(time / double(repeats));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

const Placement kPlain = kPlacements[0];

std::vector<Family> &families() {
  static std::vector<Family> list;
  return list;
}

Suite::Suite(Options options) : options_(std::move(options)) {
  for (int32_t i = 0; const char *isa = bnb_isa_name(i); ++i) {
    const Target target{std::string("cpu/") + isa, {kDLCPU, 0}, isa};
    if (i == 0) reference_ = target;
    if (!selected("", &target)) continue;
    if (bnb_isa_available(isa)) {
      targets_.push_back(target);
    } else {
      skip(target.name + ": this CPU does not run it");
    }
  }
  for (int32_t i = 1; const char *backend = bnb_backend_name(i); ++i) {
    const int32_t devices = bnb_device_count(backend);
    for (int32_t id = 0; id < devices; ++id) {
      const Target target{std::string(backend) + ":" + std::to_string(id), {type_of(backend), id}, nullptr};
      if (selected("", &target)) targets_.push_back(target);
    }
    if (devices == 0) skip(std::string(backend) + ": no device");
  }
}

bool Suite::without_device(const std::string &target) const {
  for (int32_t i = 1; const char *backend = bnb_backend_name(i); ++i) {
    if (!matches(target, std::string(backend) + ":0") || bnb_device_count(backend) > 0) continue;
    std::printf("skipped: the library has the backend %s, but there is no device\n", backend);
    return true;
  }
  return false;
}

bool Suite::selected(const std::string &name, const Target *target) const {
  return target ? matches(options_.target, target->name) : matches(options_.filter, name);
}

void Suite::skip(const std::string &reason) {
  ++skipped_;
  ++skip_reasons_[reason];
}

void Suite::record(const std::string &name, const Target &target, const std::string &problem) {
  if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return skip(target.name + " " + problem);
  if (problem.empty()) {
    ++passed_;
    if (options_.verbose) std::printf("ok   %s @ %s\n", name.c_str(), target.name.c_str());
    return;
  }
  if (++failed_ > kShownFailures && !options_.verbose) return;
  std::printf("FAIL %s @ %s\n     %s\n     again: --filter '%s' --target %s --seed %llu\n", name.c_str(),
              target.name.c_str(), problem.c_str(), name.c_str(), target.name.c_str(),
              (unsigned long long)options_.seed);
}

void Suite::check(const std::string &name, const Make &make) {
  if (options_.bench || !selected(name, nullptr)) return;
  if (options_.list) {
    std::printf("%s\n", name.c_str());
    return;
  }
  Random random(seed_of(options_.seed, name));
  const Call call = make(random);
  std::vector<Bytes> want, got;
  now_running(name.c_str(), reference_.name.c_str());
  const std::string trouble = run(call, reference_, kPlain, &want);
  for (const Target &target : targets_) {
    std::string problem = trouble;
    now_running(name.c_str(), target.name.c_str());
    for (const Placement &placement : kPlacements) {
      if (!problem.empty()) break;
      problem = run(call, target, placement, &got);
      if (problem.empty()) problem = compare(call, got, want);
      if (!problem.empty() && problem.compare(0, 12, "UNSUPPORTED:") != 0) {
        problem += std::string("\n     buffers ") + placement.name;
      }
    }
    record(name, target, problem);
  }
}

void Suite::check_on_each(const std::string &name, const Test &test) {
  if (options_.bench || !selected(name, nullptr)) return;
  if (options_.list) {
    std::printf("%s\n", name.c_str());
    return;
  }
  for (const Target &target : targets_) {
    Random random(seed_of(options_.seed, name));
    now_running(name.c_str(), target.name.c_str());
    record(name, target, test(target, random));
  }
}

void Suite::bench(const std::string &name, double bytes, const Make &make) {
  if (!options_.bench || !selected(name, nullptr)) return;
  if (options_.list) {
    std::printf("%s\n", name.c_str());
    return;
  }
  Random random(seed_of(options_.seed, name));
  const Call call = make(random);
  for (const Target &target : targets_) {
    if (target.isa) bnb_set_isa(target.isa);
    bnb_set_num_threads(0);
    std::vector<std::unique_ptr<Buffer>> buffers;
    std::vector<DLTensor *> tensors;
    for (const Tensor &tensor : call.tensors) {
      buffers.push_back(std::make_unique<Buffer>(tensor, target.device, kPlain));
      tensors.push_back(buffers.back()->descriptor());
    }
    const double time = median_nanoseconds([&] {
      call.invoke(tensors.data());
      bnb_synchronize(target.device, nullptr);
    });
    std::printf("%-56s %-16s %14.0f ns %9.2f GB/s\n", name.c_str(), target.name.c_str(), time, bytes / time);
    std::fflush(stdout);
  }
}

bool Suite::finish() {
  if (options_.list || options_.bench) return true;
  if (failed_ > kShownFailures && !options_.verbose) {
    std::printf("%lld more failures (--verbose shows them)\n", (long long)(failed_ - kShownFailures));
  }
  for (const auto &[reason, count] : skip_reasons_) std::printf("skipped %lld: %s\n", (long long)count, reason.c_str());
  std::printf("seed %llu, targets:", (unsigned long long)options_.seed);
  for (const Target &target : targets_) std::printf(" %s", target.name.c_str());
  if (passed_ + failed_ + skipped_ == 0) std::printf("\nno case matches '%s'", options_.filter.c_str());
  std::printf("\n%lld passed, %lld failed", (long long)passed_, (long long)failed_);
  if (skipped_) std::printf(", %lld skipped", (long long)skipped_);
  std::printf("\n");
  return failed_ == 0 && passed_ + skipped_ > 0;
}

}  // namespace conformance
