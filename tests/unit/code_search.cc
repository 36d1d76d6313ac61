// SPDX-License-Identifier: MIT
// The table of cpu/code_search.h against counting midpoints, for every code of the conformance suite.
#include "cpu/code_search.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "check.h"
#include "conformance/codes.h"
#include "formats/portable.h"

using bnb::cpu::CodeSearch;
using bnb::formats::bits_from_float;
using bnb::formats::float_from_bits;
using namespace conformance;

namespace {

std::vector<float> midpoints_of(const std::vector<float> &code) {
  std::vector<float> midpoints;
  for (size_t i = 0; i + 1 < code.size(); ++i) midpoints.push_back((code[i] + code[i + 1]) * 0.5f);
  return midpoints;
}

// How many midpoints are below x.
int by_counting(const std::vector<float> &midpoints, float x) {
  return int(std::lower_bound(midpoints.begin(), midpoints.end(), x) - midpoints.begin());
}

// As the kernels read it (the layout is described in code_search.h).
int by_table(const CodeSearch &search, float x) {
  const uint32_t bits = bits_from_float(x) & 0x7FFFFFFFu;
  const int32_t key = int32_t(bits >> 16) - CodeSearch::kLowestKey + 1;
  const int32_t bucket = key < 0 ? 0 : key > CodeSearch::kTopBucket ? int32_t(CodeSearch::kTopBucket) : key;
  const uint32_t entry = search.entries[bucket + (x > 0.0f ? CodeSearch::kBucketsPerSign : 0)];
  return int((bits & 0xFFFFu) > (entry >> 16) ? (entry >> 8) & 0xFFu : entry & 0xFFu);
}

void check_value(const CodeSearch &search, const std::vector<float> &midpoints, float x) {
  const int want = by_counting(midpoints, x), got = by_table(search, x);
  CHECK_THAT(got == want, "%.9g (0x%08x) gets code %d, must be %d", double(x), bits_from_float(x), got, want);
}

// Normalised values are at most an ulp or two above 1.
constexpr float kLargest = 1.0f + 0x1p-21f;

void check_code(const std::vector<float> &code, bool must_be_sparse) {
  const auto search = std::make_unique<CodeSearch>();
  bnb::cpu::make_code_search(code.data(), search.get());
  const std::vector<float> midpoints = midpoints_of(code);
  CHECK(std::equal(midpoints.begin(), midpoints.end(), search->midpoints));
  CHECK(std::isinf(search->midpoints[255]));
  CHECK(!(must_be_sparse && search->dense));
  if (search->dense) return;

  for (size_t i = 0; i < 255; ++i) {  // around every midpoint
    for (int step = -3; step <= 3; ++step) {
      float x = search->midpoints[i];
      for (int s = 0; s < std::abs(step); ++s) x = std::nextafter(x, step < 0 ? -4.0f : 4.0f);
      if (std::fabs(x) <= kLargest) check_value(*search, midpoints, x);
      if (std::fabs(x) <= kLargest) check_value(*search, midpoints, -x);
    }
  }
  for (uint32_t upper = 0; upper <= bits_from_float(1.0f) >> 16;
       ++upper) {  // the first, the last and two more of every bucket
    for (uint32_t lower : {0u, 1u, 0x8000u, 0xFFFFu}) {
      const float x = float_from_bits((upper << 16) | lower);
      if (x <= kLargest) check_value(*search, midpoints, x);
      if (x <= kLargest) check_value(*search, midpoints, -x);
    }
  }
}

}  // namespace

int main() {
  for (Code code : kAllCodes) {
    // The maps that bitsandbytes makes; others may turn out too dense for the table.
    const bool usual = code == Code::kDynamicSigned || code == Code::kDynamicUnsigned || code == Code::kLinear ||
                       code == Code::kE4M3 || code == Code::kE5M2 || code == Code::kNormal;
    for (uint64_t seed = 0; seed < (usual ? 1 : 8); ++seed) {
      unit::run(name_of(code), [&] {
        Random random(seed);
        check_code(values_of(code, random), usual);
      });
    }
  }
  unit::run("random levels", [] {  // few distinct values, so that the table works, anywhere on the axis
    for (uint64_t seed = 0; seed < 40; ++seed) {
      Random random(seed);
      std::vector<float> levels, code;
      for (int i = 0; i < 20; ++i) levels.push_back(random.uniform() * std::ldexp(1.0f, -int(random.below(20))));
      for (int i = 0; i < 256; ++i) code.push_back(levels[size_t(random.below(20))]);
      std::sort(code.begin(), code.end());
      check_code(code, false);
    }
  });
  unit::run("known maps", [] {
    Random random(0);
    for (Code code : {Code::kDynamicSigned, Code::kDynamicUnsigned}) {
      std::vector<float> values = values_of(code, random);
      const CodeSearch *known = bnb::cpu::known_code_search(values.data());
      CHECK(known && known->midpoints[200] == (values[200] + values[201]) * 0.5f);
      values[77] = std::nextafter(values[77], 4.0f);  // one ulp away is another code
      CHECK(!bnb::cpu::known_code_search(values.data()));
    }
  });
  return unit::summary();
}
