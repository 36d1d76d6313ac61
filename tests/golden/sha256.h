// SPDX-License-Identifier: MIT
// SHA-256 (FIPS 180-4), for comparing results with published digests.
#ifndef TESTS_GOLDEN_SHA256_H_
#define TESTS_GOLDEN_SHA256_H_

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace golden {

// The first 32 bits of the fractional part of a root of the i-th prime, from which all constants come.
inline uint32_t root_bits(int i, double (*root)(double)) {
  int prime = 1;
  for (int found = -1; found < i;) {
    ++prime;
    bool is_prime = true;
    for (int d = 2; d * d <= prime; ++d) is_prime = is_prime && prime % d != 0;
    found += is_prime;
  }
  const double value = root(double(prime));
  return uint32_t((value - std::floor(value)) * 0x1p32);
}

inline std::string sha256(const std::vector<uint8_t> &message) {
  static uint32_t constants[64], start[8];
  if (start[0] == 0) {
    for (int i = 0; i < 64; ++i) constants[i] = root_bits(i, [](double p) { return std::cbrt(p); });
    for (int i = 0; i < 8; ++i) start[i] = root_bits(i, [](double p) { return std::sqrt(p); });
  }
  std::vector<uint8_t> padded = message;
  padded.push_back(0x80);
  while (padded.size() % 64 != 56) padded.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) padded.push_back(uint8_t((uint64_t(message.size()) * 8) >> shift));

  const auto rotate = [](uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
  uint32_t hash[8];
  for (int i = 0; i < 8; ++i) hash[i] = start[i];
  for (size_t block = 0; block < padded.size(); block += 64) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; ++i) {
      const uint8_t *p = &padded[block + size_t(i) * 4];
      w[i] = uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    for (int i = 0; i < 8; ++i) v[i] = hash[i];
    for (int i = 0; i < 64; ++i) {
      const uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
      const uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
      const uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[i] + w[i];
      const uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      for (int j = 7; j > 0; --j) v[j] = v[j - 1];
      v[4] += t1;
      v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; ++i) hash[i] += v[i];
  }
  std::string text;
  for (uint32_t word : hash) {
    char hex[9];
    std::snprintf(hex, sizeof hex, "%08x", word);
    text += hex;
  }
  return text;
}

}  // namespace golden

#endif  // TESTS_GOLDEN_SHA256_H_
