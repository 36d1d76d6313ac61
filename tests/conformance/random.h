// SPDX-License-Identifier: MIT
// The random numbers of the tests: small, seedable, the same on every platform.
#ifndef TESTS_CONFORMANCE_RANDOM_H_
#define TESTS_CONFORMANCE_RANDOM_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace conformance {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // Decisions taken from a fuzzer's bytes, two a decision, while there are any.
  Random(const uint8_t *bytes, size_t size) : state_(0), bytes_(bytes), left_(size) {}

  uint64_t bits() {  // splitmix64
    for (int i = 0; i < 2 && left_ > 0; ++i, --left_) state_ = (state_ << 8) ^ *bytes_++;
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  int64_t below(int64_t n) { return int64_t(bits() % uint64_t(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool one_in(int64_t n) { return below(n) == 0; }
  float sign() { return bits() & 1 ? -1.0f : 1.0f; }
  double unit() { return double(bits() >> 11) * 0x1p-53; }  // [0, 1)
  float uniform() { return float(2.0 * unit() - 1.0); }     // [-1, 1)
  float normal() { return float(std::sqrt(-2.0 * std::log(1.0 - unit())) * std::cos(6.283185307179586 * unit())); }

 private:
  uint64_t state_;
  const uint8_t *bytes_ = nullptr;
  size_t left_ = 0;
};

// A seed of its own for everything that has a name (FNV-1a).
inline uint64_t seed_of(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u ^ seed;
  for (char c : name) hash = (hash ^ uint8_t(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_RANDOM_H_
