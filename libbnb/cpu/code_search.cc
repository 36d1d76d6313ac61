// SPDX-License-Identifier: MIT
// Building the table of cpu/code_search.h from a code.
#include "cpu/code_search.h"

#include <cstring>

#include "core/dtype.h"
#include "formats/dynamic_map.h"

namespace bnb::cpu {
namespace {

using formats::bits_from_float;
using formats::float_from_bits;

constexpr float kInfinity = __builtin_inff();

struct Side {
  uint32_t *entries;
  bool negative;
};

uint32_t make_entry(uint32_t near, uint32_t far, uint32_t low) { return (low << 16) | (far << 8) | near; }

// Fills one side, from zero outwards. `step` walks the midpoints away from zero, starting at `next`, the first one beyond zero;
// `code` is the code of a tiny number of this side. Returns false if a bucket would hold two different midpoints.
bool fill_side(const float *midpoints, int next, int step, uint32_t code, Side side) {
  for (int32_t bucket = 0; bucket <= CodeSearch::kTopBucket; ++bucket) {
    const uint32_t bucket_end = uint32_t(CodeSearch::kLowestKey + bucket) << 16;  // first pattern of the next bucket
    uint32_t beyond = code, low = 0xFFFF;
    bool found = false;
    for (; next >= 0 && next < 255; next += step) {
      const uint32_t bits = bits_from_float(midpoints[next]) & 0x7FFFFFFFu;
      if (bits >= bucket_end) break;
      if (bucket == 0 || (found && (bits & 0xFFFFu) != low)) return false;
      found = true;
      low = bits & 0xFFFFu;
      beyond += uint32_t(step);
    }
    if (found && side.negative && low-- == 0) code = beyond;
    side.entries[bucket] = make_entry(code, beyond, low & 0xFFFFu);
    code = beyond;
  }
  return true;
}

}  // namespace

void make_code_search(const void *code, CodeSearch *search) {
  for (int i = 0; i < 255; ++i) search->midpoints[i] = (load<float>(code, i) + load<float>(code, i + 1)) * 0.5f;
  search->midpoints[255] = kInfinity;

  int below_zero = 0, up_to_zero = 0;  // midpoints < 0 and <= 0: the codes of zero and of a tiny positive number
  for (int i = 0; i < 255; ++i) {
    below_zero += search->midpoints[i] < 0.0f;
    up_to_zero += search->midpoints[i] <= 0.0f;
  }
  uint32_t *entries = search->entries;
  search->dense =
      !fill_side(search->midpoints, below_zero - 1, -1, uint32_t(below_zero), {entries, true}) ||
      !fill_side(search->midpoints, up_to_zero, 1, uint32_t(up_to_zero), {entries + CodeSearch::kBucketsPerSign, false});
}

const CodeSearch *known_code_search(const void *code) {
  using formats::dynamic_map::kSignedBits;
  using formats::dynamic_map::kUnsignedBits;
  static const CodeSearch *const searches = [] {
    static CodeSearch made[2];
    make_code_search(kSignedBits, &made[0]);
    make_code_search(kUnsignedBits, &made[1]);
    return made;
  }();
  if (std::memcmp(code, kSignedBits, sizeof kSignedBits) == 0) return &searches[0];
  if (std::memcmp(code, kUnsignedBits, sizeof kUnsignedBits) == 0) return &searches[1];
  return nullptr;
}

}  // namespace bnb::cpu
