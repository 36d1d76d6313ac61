// SPDX-License-Identifier: MIT
// Ternary weights: quantize to -1, 0, 1 in two bits or in GGUF's blocks (docs/formats.md), and back. EXACT.
//
// Quantize: x * (1 / scale) grows with |x|, so a block has one largest magnitude that becomes 0. It is found from the scale, and the
// bits of the elements are compared with it as they are, 16-bit ones without becoming fp32.
// Both ways, codes pass through one byte each in a small stage: scales change at any element, layouts only at whole bytes or blocks.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streaming.h"
#include "cpu/kernels/trit_layouts.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kStageCodes = 2048;
static_assert(kStageCodes % kBlock == 0, "stages are whole blocks");

struct CodeStage {
  alignas(kLineBytes) uint8_t codes[kStageCodes + kTritSlack];
};

using formats::bits_from_float;
using formats::float_from_bits;

// The bits of the largest magnitude in fp32 that becomes 0 in a block with this scale.
BNB_INLINE uint32_t largest_zero(float scale, float limit) {
  if (scale == float_from_bits(kInfinityBits)) return kInfinityBits - 1;
  if (!(scale > 0.0f)) return kMagnitudeBits;  // all of them, NaN included
  const float reciprocal = 1.0f / scale;
  const bool ordinary = is_ordinary(reciprocal);
  // 0.5 / reciprocal is at most one step below it and two above.
  const int32_t near = int32_t(bits_from_float(ordinary ? 0.5f / reciprocal : 0.5f * scale));
  int32_t largest = near - 2;
  for (int32_t i = near - 1; i <= near + 1; ++i) {
    const float x = float_from_bits(uint32_t(i > 0 ? i : 0));
    largest += (ordinary ? x * reciprocal : x / scale) <= limit;
  }
  return uint32_t(largest);
}

// The same in bits of the dtype.
template <typename Tag>
BNB_INLINE uint32_t narrow_limit(uint32_t magnitude) {
  if constexpr (Tag::kDType == DType::kF32) return magnitude;
  if constexpr (Tag::kDType == DType::kBF16) return magnitude >> 16;
  if constexpr (Tag::kDType == DType::kF16) {
    const uint32_t nearest = Tag::narrow(float_from_bits(magnitude));
    return nearest - (bits_from_float(Tag::widen(uint16_t(nearest))) > magnitude);
  }
}

template <typename Tag>
BNB_INLINE void encode_part(const TritLimits<Tag> &limits, const char *p, int64_t count, int64_t ahead, uint8_t *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  for (; count >= kTritsAtOnce; count -= kTritsAtOnce, p += kTritsAtOnce * kSize, out += kTritsAtOnce) {
    prefetch(p + ahead, kTritsAtOnce * kSize);
    encode_trits(limits, p, out);
  }
  if (count == 0) return;
  const Padded<kTritsAtOnce * kSize> padded(p, count * kSize);
  encode_trits(limits, reinterpret_cast<const char *>(padded.bytes), out);  // as many as ever: the next part comes over them
}

// Codes of elements [first, last), then of zeros up to a whole byte.
template <typename Tag>
BNB_INLINE void encode(const QuantizeTernaryArgs &args, int64_t first, int64_t last, int64_t ahead, uint8_t *codes) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const float limit = args.rule == BNB_ABSMEAN ? limit_of_absmean() : limit_of_absmax();
  const char *p = static_cast<const char *>(args.a) + first * kSize;
  for (BlockParts part(first, last, args.blocksize); part.more(); part.next()) {
    const uint32_t largest = largest_zero(bnb::load<float>(args.scale, part.block), limit);
    encode_part<Tag>(make_trit_limits<Tag>(narrow_limit<Tag>(largest)), p, part.count(), ahead, codes);
    p += part.count() * kSize;
    codes += part.count();
  }
  std::memset(codes, kZeroCode, TwoBits::kCodes);
}

template <typename Layout>
BNB_INLINE void store_block(const uint8_t *codes, float scale, uint8_t *block) {
  pack_block(Layout{}, codes, block);
  const uint16_t half = F16::narrow(scale);
  block[Layout::kCodeBytes] = uint8_t(half);
  block[Layout::kCodeBytes + 1] = uint8_t(half >> 8);
}

// Elements [first, last), whose codes are in a stage.
BNB_INLINE void store_codes(TwoBits layout, const QuantizeTernaryArgs &args, const uint8_t *codes, int64_t first, int64_t last) {
  pack(layout, codes, last - first, args.out + first / TwoBits::kCodes);
}

template <typename Layout>
BNB_INLINE void store_codes(Layout, const QuantizeTernaryArgs &args, const uint8_t *codes, int64_t first, int64_t last) {
  for (; first < last; first += kBlock, codes += kBlock) {
    const float scale = bnb::load<float>(args.scale, first / args.blocksize);
    store_block<Layout>(codes, scale, args.out + first / kBlock * Layout::kBytes);
  }
}

template <typename Layout, typename Tag>
void quantize(const QuantizeTernaryArgs &args, int64_t begin, int64_t end) {
  CodeStage stage;
  const int64_t ahead = bytes_ahead<Tag>(end, args.n);
  for (int64_t first = begin; first < end; first += kStageCodes) {
    const int64_t last = end - first < kStageCodes ? end : first + kStageCodes;
    encode<Tag>(args, first, last, ahead, stage.codes);
    store_codes(Layout{}, args, stage.codes, first, last);
  }
}

template <typename Tag>
BNB_INLINE void decode_part(float scale, const uint8_t *codes, int64_t count, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kAtOnce = kTritsExpanded<Tag>;
  const TritTable<Tag> table = make_trit_table<Tag>(scale);
  for (; count >= kAtOnce; count -= kAtOnce, codes += kAtOnce, out += kAtOnce * kSize) expand_trits(table, codes, out);
  if (count == 0) return;
  Padded<kAtOnce * kSize> values;
  expand_trits(table, codes, reinterpret_cast<char *>(values.bytes));
  values.copy_to(out, count * kSize);
}

// Values of elements [first, last), at most a stage.
template <typename Tag>
BNB_INLINE void decode(TwoBits layout, const DequantizeTernaryArgs &args, int64_t first, int64_t last, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  CodeStage stage;
  unpack(layout, args.a + first / TwoBits::kCodes, last - first, stage.codes);
  const uint8_t *codes = stage.codes;
  for (BlockParts part(first, last, args.blocksize); part.more(); part.next()) {
    decode_part<Tag>(bnb::load<float>(args.scale, part.block), codes, part.count(), out);
    codes += part.count();
    out += part.count() * kSize;
  }
}

template <typename Tag, typename Layout>
BNB_INLINE void decode(Layout layout, const DequantizeTernaryArgs &args, int64_t first, int64_t last, char *out) {
  uint8_t codes[kBlock + kTritSlack];
  for (; first < last; first += kBlock, out += kBlock * int64_t(sizeof(typename Tag::Storage))) {
    const uint8_t *block = args.a + first / kBlock * Layout::kBytes;
    unpack_block(layout, block, codes);
    const uint16_t half = uint16_t(block[Layout::kCodeBytes] | block[Layout::kCodeBytes + 1] << 8);
    decode_part<Tag>(F16::widen(half), codes, kBlock, out);
  }
}

template <typename Layout, typename Tag>
void dequantize(const DequantizeTernaryArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  static_assert(kStageBytes / kSize % kBlock == 0, "outputs are produced in whole blocks");
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t stop = last_byte / kSize;
    for (int64_t first = first_byte / kSize; first < stop; first += kStageCodes, where += kStageCodes * kSize) {
      decode<Tag>(Layout{}, args, first, stop - first < kStageCodes ? stop : first + kStageCodes, where);
    }
  };
  write_output(args.out, args.n * kSize, begin * kSize, end * kSize, produce);
}

}  // namespace

void quantize_ternary(const QuantizeTernaryArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_TQ1_0: return quantize<TQ1, Tag>(args, begin, end);
      case BNB_TQ2_0: return quantize<TQ2, Tag>(args, begin, end);
      default: return quantize<TwoBits, Tag>(args, begin, end);
    }
  });
}

void dequantize_ternary(const DequantizeTernaryArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_TQ1_0: return dequantize<TQ1, Tag>(args, begin, end);
      case BNB_TQ2_0: return dequantize<TQ2, Tag>(args, begin, end);
      default: return dequantize<TwoBits, Tag>(args, begin, end);
    }
  });
}

}  // namespace bnb::cpu::BNB_ISA
