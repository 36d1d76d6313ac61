// SPDX-License-Identifier: MIT
// Ternary weights: codes 0, 1, 2 for -1, 0, 1, two bits each in a row or as the blocks TQ1_0 and TQ2_0 of GGUF (docs/formats.md).
#ifndef BNB_FORMATS_TERNARY_H_
#define BNB_FORMATS_TERNARY_H_

#include "formats/portable.h"

namespace bnb {
namespace formats {
namespace ternary {

enum : uint8_t { kZeroCode = 1 };  // of the weight 0, and of weights that are missing in the last byte

// What a code counts as. Code 3, which no quantizer writes, is one more than code 2.
BNB_FN BNB_CONSTEXPR int value(uint8_t code) { return int(code) - 1; }

// A normalised weight is -1 or 1 if its magnitude is above this, and else 0. Halves go to zero, the even neighbour (absmean) ...
BNB_FN BNB_CONSTEXPR float limit_of_absmean() { return 0.5f; }
// ... or away from it (absmax): this is the largest number below a half.
BNB_FN BNB_CONSTEXPR float limit_of_absmax() { return float_from_bits(0x3EFFFFFFu); }

BNB_FN BNB_CONSTEXPR uint8_t encode(float unit, float limit) {
  return uint8_t(kZeroCode + (unit > limit ? 1 : 0) - (unit < -limit ? 1 : 0));  // NaN: zero
}

// Where the code of a weight is: which byte, and which of the codes in that byte.
struct Place {
  int byte, index;
};

// Four codes a byte, the first in the lowest bits.
struct TwoBits {
  enum : int { kCodes = 4 };
  static BNB_FN BNB_CONSTEXPR uint8_t code(uint8_t byte, int index) { return uint8_t((byte >> (2 * index)) & 3); }
  static BNB_FN BNB_CONSTEXPR uint8_t bits(uint8_t code, int index) { return uint8_t(code << (2 * index)); }
};

// The codes of a GGUF block of 256 weights, behind which are the two bytes of a binary16 scale, the lower one first.
enum : int { kBlock = 256 };

// TQ2_0: each half of the weights in 32 bytes, code `index` of byte m being that of weight 32 * index + m of the half.
struct TQ2 {
  enum : int { kCodeBytes = 64, kBytes = 66, kRow = 32 };
  static BNB_FN BNB_CONSTEXPR Place place_of(int weight) {
    return {weight / (4 * kRow) * kRow + weight % kRow, weight / kRow % 4};
  }
  static BNB_FN BNB_CONSTEXPR uint8_t code(uint8_t byte, int index) { return TwoBits::code(byte, index); }
};

// TQ1_0: five codes a byte, as digits to the base of 3: 32 bytes for weights 0 .. 159, then 16 for 160 .. 239, then 4 bytes of four
// codes for 240 .. 255. Digits lie strided, as in TQ2_0.
struct TQ1 {
  enum : int { kCodeBytes = 52, kBytes = 54, kDigits = 5 };
  enum : int { kFirst = 32, kSecond = 16, kThird = 4, kSecondWeight = 160, kThirdWeight = 240 };  // bytes of each part; its first weight
  static BNB_FN BNB_CONSTEXPR Place place_of(int weight) {
    if (weight < kSecondWeight) return {weight % kFirst, weight / kFirst};
    if (weight < kThirdWeight) return {kFirst + (weight - kSecondWeight) % kSecond, (weight - kSecondWeight) / kSecond};
    return {kFirst + kSecond + (weight - kThirdWeight) % kThird, (weight - kThirdWeight) / kThird};
  }

  // What a digit adds to the number that a byte stands for: digit 0 is the most significant.
  static BNB_FN BNB_CONSTEXPR int weight_of(int index) {
    int weight = 1;
    for (; index < kDigits - 1; ++index) weight *= 3;
    return weight;
  }

  // A number of 0 .. 242 is stored as a fraction of 243, rounded up to a 256th: a digit is then what multiplying by 3 carries out
  // of the byte, and what stays is the fraction with the next digits.
  static BNB_FN BNB_CONSTEXPR uint8_t byte_of(int number) { return uint8_t((number * 256 + 242) / 243); }
  static BNB_FN BNB_CONSTEXPR uint8_t code(uint8_t byte, int index) {
    for (; index > 0; --index) byte = uint8_t(byte * 3);
    return uint8_t((byte * 3) >> 8);
  }
};

}  // namespace ternary
}  // namespace formats
}  // namespace bnb

#endif  // BNB_FORMATS_TERNARY_H_
