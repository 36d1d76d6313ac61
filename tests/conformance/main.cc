// SPDX-License-Identifier: MIT
// The command line of the conformance suite.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "crash.h"
#include "suite.h"

using namespace conformance;

namespace {

constexpr int kSkipped = 77;  // what Meson counts as a test that was skipped

constexpr char kUsage[] =
    "usage: conformance [--list] [--bench [--elements N]] [--quick] [--slow] [--verbose]\n"
    "                   [--filter NAME|PATTERN] [--target NAME|PATTERN] [--seed N]\n"
    "  --list     print the names of the cases, run none\n"
    "  --bench    time the benchmark cases instead of checking, on 16777216 elements or as many as --elements says\n"
    "  --quick    fewer and smaller cases, for emulators and instrumented builds\n"
    "  --slow     also the cases of more than 2^31 elements\n"
    "  --verbose  print every case that passed\n"
    "  --filter   cases whose name contains NAME, or matches PATTERN (with *)\n"
    "  --target   the same for targets: cpu/reference, cpu/avx2, cuda:0 ...\n"
    "  --seed     of the random numbers; 1 if not given\n";

bool parse(int argc, char **argv, Options *options) {
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char *flag) { return std::strcmp(argv[i], flag) == 0; };
    if (is("--list")) {
      options->list = true;
    } else if (is("--bench")) {
      options->bench = true;
    } else if (is("--quick")) {
      options->quick = true;
    } else if (is("--slow")) {
      options->slow = true;
    } else if (is("--verbose")) {
      options->verbose = true;
    } else if (is("--filter") && i + 1 < argc) {
      options->filter = argv[++i];
    } else if (is("--target") && i + 1 < argc) {
      options->target = argv[++i];
    } else if (is("--elements") && i + 1 < argc) {
      options->bench_elements = std::strtoll(argv[++i], nullptr, 0);
    } else if (is("--seed") && i + 1 < argc) {
      options->seed = std::strtoull(argv[++i], nullptr, 0);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char **argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  name_the_case_on_a_crash();
  Suite suite(options);
  if (suite.targets().empty() && suite.without_device(options.target)) return kSkipped;
  if (suite.targets().empty()) {
    std::fprintf(stderr, "conformance: no target matches '%s'\n", options.target.c_str());
    return 2;
  }
  std::vector<Family> list = families();
  std::sort(list.begin(), list.end(), [](const Family &a, const Family &b) { return std::strcmp(a.name, b.name) < 0; });
  for (const Family &family : list) {
    suite.begin_family();
    family.cases(suite);
  }
  return suite.finish() ? 0 : 1;
}
