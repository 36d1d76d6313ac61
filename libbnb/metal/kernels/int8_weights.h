// SPDX-License-Identifier: MIT
// Where the weights of an int8 product come from: int8 rows, two-bit codes, or the blocks TQ1_0 and TQ2_0 of GGUF (docs/formats.md).
//
// Such a source has
//   kBlocks, block_scale(row, block)   whether sums of blocks are scaled before they are added up, and by what
//   row_scale(row), unit()       what the sum of a row with one scale is multiplied by
//   kExact                       of how many columns the sum is exact in fp32
//   times(), plus()              a weight is times() * number + plus(): numbers are what the next functions give
//   sixteen(row, k, numbers)     those of columns k to k + 15, k a multiple of 16; past the end of a row anything
//   Item, items(k), load(row, item)   what a lane reads at once, and how many of them a row has
//   kWords, four(data, i, numbers)    an item is so many words of four weights; i ascends from 0
//   activations(row, item, words)     what of a row of A these are multiplied by; where there is nothing, zeros
//   block_of(item)               the block that all of it is in
#ifndef BNB_METAL_KERNELS_INT8_WEIGHTS_H_
#define BNB_METAL_KERNELS_INT8_WEIGHTS_H_

#include "formats/ternary.h"
#include "metal/kernels/int8_product.h"

namespace bnb {
namespace kernels {

struct Int8Weights {
  enum : int { kBlocks = 0, kWords = 4, kExact = 1 << 10 };  // 2^24 / (128 * 128)
  static inline float times() { return 1.0f; }
  static inline float plus() { return 0.0f; }
  static inline float unit() { return 1.0f / (127.0f * 127.0f); }
  static inline float row_scale(constant Int8ProductArgs &args, Int8Buffers from, long row) {
    return load_f32(from.scale, args.aligned_scale != 0, row);
  }
  static inline float block_scale(constant Int8ProductArgs &, Int8Buffers, long, long) { return 1.0f; }
  static inline long block_of(constant Int8ProductArgs &, long) { return 0; }

  typedef uint4 Item;
  static inline long items(long k) { return (k + 15) / 16; }
  static inline Item load(constant Int8ProductArgs &args, Int8Buffers from, long row, long item) {
    return load_sixteen(from.b + row * args.b_stride, args.aligned_b != 0, item * 16, args.k - item * 16);
  }
  static inline void four(thread Item &data, int i, thread float *numbers) { floats_of_bytes(data[i], numbers); }
  static inline void activations(constant Int8ProductArgs &args, Int8Buffers from, long row, long item, thread uint *words) {
    const uint4 some = load_sixteen(from.a + row * args.a_stride, args.aligned_a != 0, item * 16, args.k - item * 16);
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) words[i] = some[i];
  }
  static inline void sixteen(constant Int8ProductArgs &args, Int8Buffers from, long row, long k, thread float *numbers) {
    uint4 data = load(args, from, row, k / 16);
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) four(data, i, numbers + 4 * i);
  }
};

// Codes in bits 8, 9 and 24, 25 are of two halves 1 + code / 4, once they have the exponent of 1.
inline void halves_of_codes(uint codes, thread float *first, thread float *second) {
  const uint halves = (codes & 0x03000300u) | 0x3C003C00u;
  *first = float(as_type<half>(ushort(halves)));
  *second = float(as_type<half>(ushort(halves >> 16)));
}

// What all ternary weights have in common: code - 1 = 4 * (1 + code / 4) - 5, at most 2.
struct TernaryWeights {
  enum : int { kExact = 1 << 16 };  // 2^24 / (128 * 2)
  static inline float times() { return 4.0f; }
  static inline float plus() { return -5.0f; }
  static inline float unit() { return 1.0f / 127.0f; }
};

// Two bits each, rows without gaps: a row may begin anywhere in a byte. kScaledBlocks: a row has more than one scale, or none.
template <int kScaledBlocks>
struct TwoBitWeights : TernaryWeights {
  enum : int { kBlocks = kScaledBlocks, kWords = 4 };
  static inline float row_scale(constant Int8ProductArgs &args, Int8Buffers from, long row) {
    return load_f32(from.scale, args.aligned_scale != 0, quotient(row, args.rows_per_scale));
  }
  static inline float block_scale(constant Int8ProductArgs &args, Int8Buffers from, long row, long block) {
    return load_f32(from.scale, args.aligned_scale != 0, row * args.blocks + block);
  }
  static inline long block_of(constant Int8ProductArgs &args, long item) { return quotient(item * 16, args.block); }

  typedef uint Item;
  static inline long items(long k) { return (k + 15) / 16; }
  static inline Item load(constant Int8ProductArgs &args, Int8Buffers from, long row, long item) {
    const long first = row * args.k + item * 16, byte = first / 4;
    if (args.aligned_b != 0) return *reinterpret_cast<device const uint *>(from.b + byte);
    const long count = (args.n * args.k + 3) / 4 - byte;  // bytes that there are
    const uint shift = uint(first % 4) * 2;
    uint codes = 0;
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) codes |= i < count ? uint(from.b[byte + i]) << uint(8 * i) : 0u;
    if (shift == 0) return codes;
    return codes >> shift | (count > 4 ? uint(from.b[byte + 4]) << (32 - shift) : 0u);
  }
  static inline void four(thread Item &data, int i, thread float *numbers) {
    uint codes = data >> uint(8 * i) & 0xFFu;
    codes |= codes << 12;  // the second two of the byte, in bits 16 to 19
    halves_of_codes(codes << 8, numbers, numbers + 2);
    halves_of_codes(codes << 6, numbers + 1, numbers + 3);
  }
  static inline void activations(constant Int8ProductArgs &args, Int8Buffers from, long row, long item, thread uint *words) {
    Int8Weights::activations(args, from, row, item, words);
  }
  static inline void sixteen(constant Int8ProductArgs &args, Int8Buffers from, long row, long k, thread float *numbers) {
    uint data = load(args, from, row, k / 16);
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) four(data, i, numbers + 4 * i);
  }
};

// Four bytes of codes on their way to numbers: bytes 0 and 2, then 1 and 3, each in 16 bits.
struct TqCodes {
  uint even, odd;
};
inline TqCodes tq_codes(uint word) {
  TqCodes made = {word & 0x00FF00FFu, word >> 8 & 0x00FF00FFu};
  return made;
}
// Their codes with index i as numbers. Of TQ1_0 it must be those of i - 1 that came before.
struct StepTQ2 {
  typedef formats::ternary::TQ2 Layout;
  enum : int { kCodes = 4 };  // of a byte
  static inline void four(thread TqCodes &data, int i, thread float *numbers) {
    halves_of_codes(data.even << uint(8 - 2 * i), numbers, numbers + 2);
    halves_of_codes(data.odd << uint(8 - 2 * i), numbers + 1, numbers + 3);
  }
  static inline TqCodes at(TqCodes data, int) { return data; }
  static inline int word_of(int item, int i) {  // the first of the weights of a block that word i of an item is of
    return item / (Layout::kRow / 4) * (4 * Layout::kRow) + item % (Layout::kRow / 4) * 4 + Layout::kRow * i;
  }
};
struct StepTQ1 {
  typedef formats::ternary::TQ1 Layout;
  enum : int { kCodes = Layout::kDigits };
  // What three times a byte carries is a digit; what stays has the next ones.
  static inline void four(thread TqCodes &data, int, thread float *numbers) {
    halves_of_codes(data.even * 3, numbers, numbers + 2);
    halves_of_codes(data.odd * 3, numbers + 1, numbers + 3);
    data = at(data, 1);
  }
  static inline TqCodes at(TqCodes data, int i) {
    TqCodes made = data;
    for (int step = 0; step < i; ++step) {
      made.even = made.even * 3 & 0x00FF00FFu;
      made.odd = made.odd * 3 & 0x00FF00FFu;
    }
    return made;
  }
  static inline int word_of(int item, int i) {
    if (item < Layout::kFirst / 4) return 4 * item + Layout::kFirst * i;
    const int second = item - Layout::kFirst / 4;
    if (second < Layout::kSecond / 4) return Layout::kSecondWeight + 4 * second + Layout::kSecond * i;
    return i < kCodes - 1 ? Layout::kThirdWeight + Layout::kThird * i : -1;  // the last four bytes have a digit less
  }
};

// Blocks of 256 weights with a scale of their own. An item is four bytes of codes.
template <typename Step>
struct TqWeights : TernaryWeights {
  typedef typename Step::Layout Layout;
  enum : int { kBlocks = 1, kWords = Step::kCodes, kBlock = formats::ternary::kBlock, kItems = int(Layout::kCodeBytes) / 4 };
  static inline device const uchar *block_at(constant Int8ProductArgs &args, Int8Buffers from, long row, long block) {
    return from.b + (row * args.blocks + block) * int(Layout::kBytes);
  }
  static inline float block_scale(constant Int8ProductArgs &args, Int8Buffers from, long row, long block) {
    if (args.blocks == 1) return 1.0f;
    return load_float<F16>(block_at(args, from, row, block) + int(Layout::kCodeBytes), args.aligned_b != 0, 0);
  }
  static inline float row_scale(constant Int8ProductArgs &args, Int8Buffers from, long row) {
    return load_float<F16>(block_at(args, from, row, 0) + int(Layout::kCodeBytes), args.aligned_b != 0, 0);
  }
  static inline long block_of(constant Int8ProductArgs &, long item) { return item / kItems; }

  typedef TqCodes Item;
  static inline long items(long k) { return k / kBlock * kItems; }
  static inline Item load_word(constant Int8ProductArgs &args, device const uchar *place) {
    const bool aligned = args.aligned_b != 0;
    return tq_codes(load_16(place, aligned, 0) | load_16(place, aligned, 1) << 16);
  }
  static inline Item load(constant Int8ProductArgs &args, Int8Buffers from, long row, long item) {
    const long block = item / kItems;
    return load_word(args, block_at(args, from, row, block) + 4 * int(item - block * kItems));
  }
  static inline void four(thread Item &data, int i, thread float *numbers) { Step::four(data, i, numbers); }
  static inline void activations(constant Int8ProductArgs &args, Int8Buffers from, long row, long item, thread uint *words) {
    const long block = item / kItems;
    const int inside = int(item - block * kItems);
    device const uchar *of_block = from.a + row * args.a_stride + block * kBlock;
    BNB_UNROLL
    for (int i = 0; i < kWords; ++i) {
      const int first = Step::word_of(inside, i);
      words[i] = first < 0 ? 0u : load_32(of_block + first, args.aligned_a != 0, 0);
    }
  }
  // The codes of one index in sixteen bytes, or four of them in the last four bytes of TQ1_0.
  static inline void sixteen(constant Int8ProductArgs &args, Int8Buffers from, long row, long k, thread float *numbers) {
    const formats::ternary::Place place = Layout::place_of(int(k % kBlock));
    device const uchar *bytes = block_at(args, from, row, k / kBlock) + place.byte;
    const bool last = place.byte + 16 > int(Layout::kCodeBytes);
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) {
      TqCodes data = Step::at(load_word(args, bytes + (last ? 0 : 4 * i)), last ? i : place.index);
      Step::four(data, last ? i : place.index, numbers + 4 * i);
    }
  }
};

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_INT8_WEIGHTS_H_
