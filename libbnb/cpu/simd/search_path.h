// SPDX-License-Identifier: MIT
// A word that several instruction sets share: the plan of a search among 15 thresholds in four steps.
#ifndef BNB_CPU_SIMD_SEARCH_PATH_H_
#define BNB_CPU_SIMD_SEARCH_PATH_H_

#include "cpu/simd/words.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// A search among 15 thresholds in four steps leaves a path: bit i is the outcome of step i. The rank has these bits reversed.
constexpr int rank_of_path(int path) { return (path & 1) << 3 | (path & 2) << 1 | (path & 4) >> 1 | (path & 8) >> 3; }

struct NibblePlan {
  float first, second[2], third[4], fourth[8];  // the thresholds that the steps compare with, by the path so far
  uint8_t code_of_path[16];
};
BNB_INLINE constexpr NibblePlan make_nibble_plan(const NibbleFormat &format) {
  NibblePlan plan{};
  const auto threshold = [&](int i) { return formats::float_from_bits(format.thresholds[i]); };
  plan.first = threshold(7);
  for (int path = 0; path < 2; ++path) plan.second[path] = threshold(rank_of_path(path) + 3);
  for (int path = 0; path < 4; ++path) plan.third[path] = threshold(rank_of_path(path) + 1);
  for (int path = 0; path < 8; ++path) plan.fourth[path] = threshold(rank_of_path(path));
  for (int path = 0; path < 16; ++path) plan.code_of_path[path] = format.codes[rank_of_path(path)];
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_SEARCH_PATH_H_
