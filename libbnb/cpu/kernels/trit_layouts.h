// SPDX-License-Identifier: MIT
// Ternary codes as one byte each, and as the layouts of formats/ternary.h store them.
#ifndef BNB_CPU_KERNELS_TRIT_LAYOUTS_H_
#define BNB_CPU_KERNELS_TRIT_LAYOUTS_H_

#include "cpu/simd/ternary.h"

namespace bnb::cpu::BNB_ISA {
namespace {

using namespace formats::ternary;

// So many bytes behind the codes of a block are read, and written, without a meaning.
constexpr int64_t kTritSlack = 64;

// `count` codes, and codes of zero behind them up to a whole byte.
BNB_INLINE void pack(TwoBits, const uint8_t *codes, int64_t count, uint8_t *out) {
  const auto packed = [&](int64_t i) {  // a 32-bit lane has the four codes of a byte: each moves to its place in the lowest one
    const Ints four = load_int32(codes + i);
    const Ints two = or_int(four, shift_right<6>(four));
    return and_int(or_int(two, shift_right<12>(two)), splat_int(0xFF));
  };
  int64_t i = 0;
  for (; i + kTritsAtOnce <= count; i += kTritsAtOnce) store_uint8(out + i / TwoBits::kCodes, packed(i));
  if (i < count) store_uint8_some(out + i / TwoBits::kCodes, packed(i), ceil_div(count - i, TwoBits::kCodes));
}

BNB_INLINE void unpack(TwoBits, const uint8_t *bytes, int64_t count, uint8_t *codes) {
  const auto unpacked = [](Ints byte) {
    const Ints two = or_int(byte, shift_left<12>(byte));
    return and_int(or_int(two, shift_left<6>(two)), splat_bits(0x03030303u));
  };
  int64_t i = 0;
  for (; i + kTritsAtOnce <= count; i += kTritsAtOnce) store_int32(codes + i, unpacked(load_uint8(bytes + i / TwoBits::kCodes)));
  if (i < count) {
    store_int32(codes + i, unpacked(load_uint8_some(bytes + i / TwoBits::kCodes, ceil_div(count - i, TwoBits::kCodes))));
  }
}

// The codes of one block of 256.
BNB_INLINE void pack_block(TQ2, const uint8_t *codes, uint8_t *block) {
  for (int i = 0; i < kBlock / TwoBits::kCodes; i += TQ2::kRow, codes += TwoBits::kCodes * TQ2::kRow) {
    const Row first = or_rows(load_row(codes), shift_row_left<2>(load_row(codes + TQ2::kRow)));
    const Row second = or_rows(load_row(codes + 2 * TQ2::kRow), shift_row_left<2>(load_row(codes + 3 * TQ2::kRow)));
    store_row(block + i, or_rows(first, shift_row_left<4>(second)));
  }
}

BNB_INLINE void unpack_block(TQ2, const uint8_t *block, uint8_t *codes) {
  const Row mask = splat_row(0x03030303u);
  for (int i = 0; i < kBlock / TwoBits::kCodes; i += TQ2::kRow, codes += TwoBits::kCodes * TQ2::kRow) {
    const Row bytes = load_row(block + i);
    store_row(codes, and_rows(bytes, mask));
    store_row(codes + TQ2::kRow, and_rows(shift_row_right<2>(bytes), mask));
    store_row(codes + 2 * TQ2::kRow, and_rows(shift_row_right<4>(bytes), mask));
    store_row(codes + 3 * TQ2::kRow, and_rows(shift_row_right<6>(bytes), mask));
  }
}

// The numbers of `kDigits` codes, the first of which is at codes + byte, the next ones each `stride` behind the one before. No byte
// overflows into its neighbour: numbers are at most 242.
template <int kDigits>
BNB_INLINE Row join_digits(const uint8_t *codes, int stride) {
  Row number = load_row(codes);
  for (int digit = 1; digit < kDigits; ++digit) {
    number = add_rows(add_rows(number, number), add_rows(number, load_row(codes + digit * stride)));
  }
  return number;
}

BNB_INLINE void pack_block(TQ1, const uint8_t *codes, uint8_t *block) {
  alignas(64) uint8_t numbers[TQ1::kFirst + TQ1::kSecond + 32 + kTritSlack];
  store_row(numbers, join_digits<TQ1::kDigits>(codes, TQ1::kFirst));
  store_row(numbers + TQ1::kFirst, join_digits<TQ1::kDigits>(codes + TQ1::kSecondWeight, TQ1::kSecond));
  const Row third = join_digits<TQ1::kDigits - 1>(codes + TQ1::kThirdWeight, TQ1::kThird);  // the last digit is 0
  store_row(numbers + TQ1::kFirst + TQ1::kSecond, add_rows(add_rows(third, third), third));
  // TQ1::byte_of: number * 256 / 243 rounded up, which is adding a half, less than the least fraction there is, and rounding.
  const Floats factor = splat(256.0f / 243.0f), half = splat(0.5f - 0.5f / 243.0f);
  const auto stored = [&](int i) { return round_int(fma(to_float(load_uint8(numbers + i)), factor, half)); };
  int i = 0;
  for (; i + kLanes <= TQ1::kCodeBytes; i += kLanes) store_uint8(block + i, stored(i));
  store_uint8_some(block + i, stored(i), TQ1::kCodeBytes - i);
}

// Takes the first digit from every byte: 3 * byte carries it out of its eight bits. Even and odd bytes have 16 bits each to do so.
struct Digits {
  Row even, odd;
  BNB_INLINE explicit Digits(Row bytes)
      : even(and_rows(bytes, splat_row(0x00FF00FFu))), odd(and_rows(shift_row_right<8>(bytes), splat_row(0x00FF00FFu))) {}
  BNB_INLINE Row next() {
    const Row low = splat_row(0x00FF00FFu);
    even = add_rows(even, add_rows(even, even));
    odd = add_rows(odd, add_rows(odd, odd));
    const Row digit = select_row_bits(low, shift_row_right<8>(even), and_rows(odd, splat_row(0x03000300u)));
    even = and_rows(even, low);
    odd = and_rows(odd, low);
    return digit;
  }
};

BNB_INLINE void unpack_block(TQ1, const uint8_t *block, uint8_t *codes) {
  // The last 32 bytes of a block hold all that is behind the first part: from here on
  constexpr int kAt = TQ1::kFirst - (TQ1::kBytes - 32);
  Digits first(load_row(block)), rest(load_row(block + TQ1::kBytes - 32));
  alignas(32) uint8_t row[32];
  for (int digit = 0; digit < TQ1::kDigits; ++digit) {
    store_row(codes + digit * TQ1::kFirst, first.next());
    store_row(row, rest.next());
    std::memcpy(codes + TQ1::kSecondWeight + digit * TQ1::kSecond, row + kAt, TQ1::kSecond);
    if (digit == TQ1::kDigits - 1) break;  // the last part has one digit less
    std::memcpy(codes + TQ1::kThirdWeight + digit * TQ1::kThird, row + kAt + TQ1::kSecond, TQ1::kThird);
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_TRIT_LAYOUTS_H_
