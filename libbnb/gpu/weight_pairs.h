// SPDX-License-Identifier: MIT
// Codes as pairs of fp16 or bf16 numbers, for matrix instructions. Scales stay outside: in fp16 a product with one could overflow.
// NF4 and FP4 are rounded to the type, by at most 2^-12 and 2^-9; all the others are numbers of it.
//
// A format is a class with
//   kBits                       of a code
//   Table, fill(table, type)    what a block keeps in shared memory; every thread fills its share, a barrier comes after
//   pair(table, bits)           the two codes in the lowest bits, the first one in the lower half
#ifndef BNB_GPU_WEIGHT_PAIRS_H_
#define BNB_GPU_WEIGHT_PAIRS_H_

#include "gpu/matrix.h"
#include "gpu/weights.h"

namespace bnb::gpu {

// kWords words from any address.
template <int kWords>
BNB_DEVICE void load_words(const void *place, uint32_t *words) {
  constexpr int kTogether = kWords < 4 ? kWords : 4;
  BNB_UNROLL
  for (int i = 0; i < kWords; i += kTogether) {
    const Items<uint32_t, kTogether> items = load_items<uint32_t, kTogether>(place, i);
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) words[i + j] = items.at[j];
  }
}

// The two values of every byte of codes. Each of 32 lanes has a table of its own, as in Nibbles: 32 KiB.
template <typename Tag>
struct NibblePairs {
  static constexpr int kBits = 4;
  struct Table {
    uint32_t values[256 * 32];
  };

  static BNB_DEVICE_METHOD void fill(Table &table, bnb_quant_type type) {
    const bool low_first = low_nibble_first(type);
    for (uint32_t i = thread_index(); i < 256 * 32; i += thread_count()) {
      const uint32_t high = Tag::narrow(value_of_nibble(type, i / 32 / 16));
      const uint32_t low = Tag::narrow(value_of_nibble(type, i / 32 % 16));
      table.values[i] = low_first ? low | high << 16 : high | low << 16;
    }
  }
  static BNB_DEVICE_METHOD uint32_t pair(const Table &table, uint32_t bits) {
    return table.values[((bits & 0xFFu) * 32) | (lane_index() % 32)];
  }
};

// FP8 moved into a type whose exponent is too low then, subnormals included, and multiplied by a power of two. Infinity and NaN are
// marked by adding what carries into the sign's place; they keep their mantissa and get the largest exponent.
template <typename Tag, bool kE4M3>
struct BytePairs {
  static constexpr int kBits = 8;
  struct Table {};

  static BNB_DEVICE_METHOD void fill(Table &, bnb_quant_type) {}
  static BNB_DEVICE_METHOD uint32_t pair(const Table &, uint32_t bits) {
    const uint32_t codes = (bits & 0xFFu) << 8 | (bits & 0xFF00u) << 16;
    constexpr bool kHalf = Tag::kDType == DType::kF16;
    if constexpr (kHalf && !kE4M3) {
      return codes;
    } else {
      constexpr int kShift = kHalf ? 1 : kE4M3 ? 4 : 3;
      constexpr uint32_t kPower = kHalf ? 0x5C00u : kE4M3 ? 0x7B80u : 0x7780u;  // 2^8; 2^120, 2^112
      constexpr uint32_t kLargestExponent = kHalf ? 0x7C00u : 0x7F80u;
      const uint32_t magnitudes = codes & 0x7F007F00u;
      const uint32_t special = (magnitudes + (kE4M3 ? 0x01000100u : 0x04000400u)) & 0x80008000u;
      const uint32_t moved = (magnitudes >> kShift) | (codes & 0x80008000u);
      return multiply_pair<Tag>(moved, kPower | kPower << 16) | (special >> 15) * kLargestExponent;
    }
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_WEIGHT_PAIRS_H_
