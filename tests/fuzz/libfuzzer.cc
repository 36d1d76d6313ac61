// SPDX-License-Identifier: MIT
// The same steps guided by coverage: clang's libFuzzer decides instead of a seed.
//   CC=clang CXX=clang++ meson setup build-fuzz -Db_sanitize=address,undefined -Db_lundef=false -Dlibfuzzer=true
//   meson compile -C build-fuzz && build-fuzz/tests/fuzz/libfuzzer -max_len=512
#include <cstdio>
#include <cstdlib>

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static fuzz::Tallies tallies;
  conformance::Random random(bytes, size);
  const std::string problem = fuzz::fuzz_one(random, &tallies);
  if (!problem.empty()) {
    std::fprintf(stderr, "%s\n", problem.c_str());
    std::abort();
  }
  return 0;
}
