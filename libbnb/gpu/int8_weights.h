// SPDX-License-Identifier: MIT
// Where the weights of an int8 product come from: int8 rows, two-bit codes, or the blocks TQ1_0 and TQ2_0 of GGUF (docs/formats.md).
//
// Such a source has
//   weight(p, row, k)            one weight
//   scaled(p, sum, row, column)  an output but for outlier columns and bias
//   kBlocks, block_scale(p, row, block)   whether sums of blocks are scaled before they are added up, and by what
//   Item, items(k), load_item(p, row, item)   what a thread reads at once, and how many of them a row has
//   kWords, word(data, item, i)  an item is so many words of four weights
//   activations(row, item, k, words)   what of a row of A these are multiplied by
//   block_of(p, item)            the block that all of it is in
// and but for int8, of stretches of kStretch weights from k on:
//   stretch_item(k), kStretchItems   the first item of theirs, and of how many at most
//   place(item, i)               which of the row's weights word i begins with; -1: there is no such word
#ifndef BNB_GPU_INT8_WEIGHTS_H_
#define BNB_GPU_INT8_WEIGHTS_H_

#include <type_traits>

#include "formats/ternary.h"
#include "gpu/int8_product.h"

namespace bnb::gpu {

constexpr int kStretch = 128;

// Sixteen int8, in words of four.
struct Sixteen {
  uint32_t words[4];
};

// Elements k to k + 15 of a row, zeros past `count` of the row.
BNB_DEVICE Sixteen load_sixteen(const void *row, int64_t k, int64_t count) {
  const auto *bytes = static_cast<const uint8_t *>(row);
  if (count - k >= 16) return __builtin_bit_cast(Sixteen, load_items<uint8_t, 16>(bytes, k));
  Sixteen some{};
  BNB_UNROLL
  for (int i = 0; i < 16; ++i) {
    if (k + i < count) some.words[i / 4] |= uint32_t(bytes[k + i]) << i % 4 * 8;
  }
  return some;
}
BNB_DEVICE uint32_t load_four(const void *row, int64_t k) {
  return __builtin_bit_cast(uint32_t, load_items<uint8_t, 4>(static_cast<const uint8_t *>(row) + k, 0));
}
// A word at an address that is even, if not everything is at any.
BNB_DEVICE uint32_t load_two_pairs(const uint8_t *place) {
  return __builtin_bit_cast(uint16_t, load_items<uint8_t, 2>(place, 0)) |
         uint32_t(__builtin_bit_cast(uint16_t, load_items<uint8_t, 2>(place + 2, 0))) << 16;
}

struct Int8Weights {
  static constexpr bool kBlocks = false;
  static BNB_DEVICE_METHOD int weight(const Int8Product &p, int64_t row, int64_t k) {
    return int8_t(p.b[row * p.b_stride + k]);
  }
  static BNB_DEVICE_METHOD float scaled(const Int8Product &p, float sum, int64_t row, int64_t column) {
    return sum * (p.row_stat(row) * load<float>(p.col_stats, column)) * (1.0f / (127.0f * 127.0f));
  }
  static BNB_DEVICE_METHOD float block_scale(const Int8Product &, int64_t, int64_t) { return 1.0f; }

  using Item = Sixteen;
  static constexpr int kWords = 4;
  static BNB_DEVICE_METHOD int64_t items(int64_t k) { return ceil_div(k, 16); }
  static BNB_DEVICE_METHOD Item load_item(const Int8Product &p, int64_t row, int64_t item) {
    return load_sixteen(p.b + row * p.b_stride, item * 16, p.k);
  }
  static BNB_DEVICE_METHOD uint32_t word(const Item &data, int64_t, int i) { return data.words[i]; }
  static BNB_DEVICE_METHOD void activations(const int8_t *row, int64_t item, int64_t k, uint32_t *words) {
    const Sixteen some = load_sixteen(row, item * 16, k);
    BNB_UNROLL
    for (int i = 0; i < 4; ++i) words[i] = some.words[i];
  }
  static BNB_DEVICE_METHOD int64_t block_of(const Int8Product &, int64_t) { return 0; }
};

// Four codes, one in each byte, as int8.
BNB_DEVICE uint32_t four_values(uint32_t codes) { return (codes + 0x7F7F7F7Fu) ^ 0x80808080u; }

// The scale of a row whose scale is for all of it.
BNB_DEVICE float row_scale(const Int8Product &p, int64_t row) {
  if (p.rows_per_scale == 1) return load<float>(p.scale, row);
  return load<float>(p.scale, p.rows_per_scale >= p.n ? 0 : row / p.rows_per_scale);
}

// What sums with ternary weights become. With one block in a row they are integers still.
template <typename Scales>
BNB_DEVICE float scaled_ternary(const Int8Product &p, float sum, int64_t row, int64_t column) {
  if (p.blocks == 1) return sum * (p.row_stat(row) * Scales::row_scale(p, column)) * (1.0f / 127.0f);
  return sum * (p.row_stat(row) * (1.0f / 127.0f));
}

// Two bits each, rows without gaps. kScaledBlocks: a row has more than one scale, or none.
template <bool kScaledBlocks>
struct TwoBitWeights {
  using TwoBits = formats::ternary::TwoBits;
  static constexpr bool kBlocks = kScaledBlocks;
  static BNB_DEVICE_METHOD int weight(const Int8Product &p, int64_t row, int64_t k) {
    const int64_t i = row * p.k + k;
    return formats::ternary::value(TwoBits::code(p.b[i / 4], int(i % 4)));
  }
  static BNB_DEVICE_METHOD float row_scale(const Int8Product &p, int64_t row) { return gpu::row_scale(p, row); }
  static BNB_DEVICE_METHOD float scaled(const Int8Product &p, float sum, int64_t row, int64_t column) {
    return scaled_ternary<TwoBitWeights>(p, sum, row, column);
  }
  static BNB_DEVICE_METHOD float block_scale(const Int8Product &p, int64_t row, int64_t block) {
    return load<float>(p.scale, row * p.blocks + block);
  }

  // For k a multiple of 16: then items of a row are whole bytes.
  using Item = uint32_t;
  static constexpr int kWords = 4;
  static BNB_DEVICE_METHOD int64_t items(int64_t k) { return k / 16; }
  static BNB_DEVICE_METHOD Item load_item(const Int8Product &p, int64_t row, int64_t item) {
    return load_four(p.b, (row * p.k + item * 16) / 4);
  }
  static BNB_DEVICE_METHOD uint32_t word(Item data, int64_t, int i) {
    const uint32_t halves = (data >> 8 * i & 0xFFu) * 0x1001u & 0x000F000Fu;  // of the byte, each in 16 bits
    return four_values(halves * 0x41u & 0x03030303u);
  }
  static BNB_DEVICE_METHOD void activations(const int8_t *row, int64_t item, int64_t k, uint32_t *words) {
    Int8Weights::activations(row, item, k, words);
  }
  static BNB_DEVICE_METHOD int64_t block_of(const Int8Product &p, int64_t item) { return p.block.of(item * 16); }
  static constexpr int kStretchItems = kStretch / 16;
  static BNB_DEVICE_METHOD int64_t stretch_item(int64_t k) { return k / 16; }
  static BNB_DEVICE_METHOD int64_t place(int64_t item, int i) { return item * 16 + 4 * i; }
};

// Blocks of 256 weights with a scale of their own. An item is four bytes of codes.
template <typename Layout>
struct TqWeights {
  static constexpr int kBlock = formats::ternary::kBlock;
  static constexpr bool kBlocks = true;
  static BNB_DEVICE_METHOD const uint8_t *block_at(const Int8Product &p, int64_t row, int64_t block) {
    return p.b + (row * p.blocks + block) * int(Layout::kBytes);
  }
  static BNB_DEVICE_METHOD int weight(const Int8Product &p, int64_t row, int64_t k) {
    const formats::ternary::Place place = Layout::place_of(int(k % kBlock));
    return formats::ternary::value(Layout::code(block_at(p, row, k / kBlock)[place.byte], place.index));
  }
  static BNB_DEVICE_METHOD float row_scale(const Int8Product &p, int64_t row) {
    return load_float<F16>(block_at(p, row, 0) + int(Layout::kCodeBytes), 0);
  }
  static BNB_DEVICE_METHOD float scaled(const Int8Product &p, float sum, int64_t row, int64_t column) {
    return scaled_ternary<TqWeights>(p, sum, row, column);
  }
  static BNB_DEVICE_METHOD float block_scale(const Int8Product &p, int64_t row, int64_t block) {
    if (p.blocks == 1) return 1.0f;
    return load_float<F16>(block_at(p, row, block) + int(Layout::kCodeBytes), 0);
  }

  using Item = uint32_t;
  static constexpr int kItems = int(Layout::kCodeBytes) / 4;  // of a block
  static constexpr bool kDigits = std::is_same_v<Layout, formats::ternary::TQ1>;
  static constexpr int kWords = kDigits ? 5 : 4;
  static BNB_DEVICE_METHOD int64_t items(int64_t k) { return k / kBlock * kItems; }
  static BNB_DEVICE_METHOD int64_t block_of(const Int8Product &, int64_t item) { return item / kItems; }
  static BNB_DEVICE_METHOD Item load_item(const Int8Product &p, int64_t row, int64_t item) {
    const int64_t block = item / kItems;
    return load_two_pairs(block_at(p, row, block) + 4 * int(item - block * kItems));
  }

  // Word i of an item begins with this weight of the block.
  static BNB_DEVICE_METHOD int first_weight(int item, int i) {
    using formats::ternary::TQ1;
    if constexpr (kDigits) {
      if (item < TQ1::kFirst / 4) return 4 * item + TQ1::kFirst * i;
      const int second = item - TQ1::kFirst / 4;
      if (second < TQ1::kSecond / 4) return TQ1::kSecondWeight + 4 * second + TQ1::kSecond * i;
      return TQ1::kThirdWeight + TQ1::kThird * (i < 4 ? i : 3);  // there are four codes, see word()
    } else {
      using formats::ternary::TQ2;
      return item / (TQ2::kRow / 4) * (4 * TQ2::kRow) + item % (TQ2::kRow / 4) * 4 + TQ2::kRow * i;
    }
  }
  static BNB_DEVICE_METHOD uint32_t word(Item data, int64_t item, int i) {
    if constexpr (kDigits) {
      if (i == 4 && item % kItems == kItems - 1) return 0;
      uint32_t power = 1;
      for (int step = 0; step < i; ++step) power *= 3;
      // Bytes 0 and 2, then 1 and 3, each in 16 bits: what three times the byte carries is the code.
      const uint32_t even = (data & 0x00FF00FFu) * power & 0x00FF00FFu;
      const uint32_t odd = (data >> 8 & 0x00FF00FFu) * power & 0x00FF00FFu;
      return four_values((even * 3 >> 8 & 0x00030003u) | (odd * 3 & 0x03000300u));
    } else {
      return four_values(data >> 2 * i & 0x03030303u);
    }
  }
  static constexpr int kStretchItems = kDigits ? kItems : kItems / 2;
  static BNB_DEVICE_METHOD int64_t stretch_item(int64_t k) {
    return k / kBlock * kItems + (kDigits || k % kBlock == 0 ? 0 : kItems / 2);
  }
  static BNB_DEVICE_METHOD int64_t place(int64_t item, int i) {
    const int64_t block = item / kItems;
    const int inside = int(item - block * kItems);
    return i == 4 && inside == kItems - 1 ? -1 : block * kBlock + first_weight(inside, i);
  }
  static BNB_DEVICE_METHOD void activations(const int8_t *row, int64_t item, int64_t, uint32_t *words) {
    const int64_t block = item / kItems;
    const int inside = int(item - block * kItems);
    BNB_UNROLL
    for (int i = 0; i < kWords; ++i) words[i] = load_four(row, block * kBlock + first_weight(inside, i));
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_INT8_WEIGHTS_H_
