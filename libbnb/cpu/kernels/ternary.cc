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

// The bits of the largest magnitude that becomes 0, in a block that is not ordinary (blocks.h): of zeros, of tiny numbers, and with
// infinity or NaN.
BNB_NOINLINE uint32_t largest_zero_of_rare(float scale, float limit) {
  if (scale == float_from_bits(kInfinityBits)) return kInfinityBits - 1;
  if (!(scale > 0.0f)) return kMagnitudeBits;  // all of them, NaN included
  const int32_t near = int32_t(bits_from_float(0.5f * scale));
  int32_t largest = near - 2;
  for (int32_t i = near - 1; i <= near + 1; ++i) largest += float_from_bits(uint32_t(i > 0 ? i : 0)) / scale <= limit;
  return uint32_t(largest);
}

// The same for ordinary blocks. It is 0.5 / reciprocal, or at most two steps below it or one above.
BNB_INLINE Ints largest_zeros(Floats reciprocal, float limit) {
  const Ints near = bits(div(splat(0.5f), reciprocal));
  Ints largest = sub_int(near, splat_int(2));
  for (int32_t step = -1; step <= 1; ++step) {
    const Floats unit = mul(from_bits(add_int(near, splat_int(step))), reciprocal);
    largest = add_int_where(greater_equal(splat(limit), unit), largest, splat_int(1));
  }
  return largest;
}

// The largest magnitudes that become 0, for some blocks at once: as bits of the dtype, and never above those of an fp32 number.
template <typename Tag>
class BlockLimits {
 public:
  BNB_INLINE BlockLimits(const QuantizeTernaryArgs &args, int64_t last_block)
      : args_(args), limit_(args.rule == BNB_ABSMEAN ? limit_of_absmean() : limit_of_absmax()), end_(last_block + 1) {}

  // Blocks are asked for one behind the other.
  BNB_INLINE TritLimits<Tag> of(int64_t block) {
    if (block >= known_) fill(block);
    return make_trit_limits<Tag>(magnitudes_[block - first_]);
  }

 private:
  BNB_INLINE void fill(int64_t block) {
    const int64_t count = end_ - block < kLanes ? end_ - block : kLanes;
    const char *scales = static_cast<const char *>(args_.scale) + block * 4;
    first_ = block;
    known_ = block + count;
    const Floats reciprocal = div(splat(1.0f), load_some<F32>(scales, count));
    store_int32(magnitudes_, largest_zeros(reciprocal, limit_));
    const Mask ordinary = both(greater(reciprocal, splat(0.0f)), greater(from_bits(splat_bits(kInfinityBits)), reciprocal));
    const uint32_t rare = ~mask_bits(ordinary) & ((uint32_t(1) << count) - 1u);
    for (int64_t i = 0; rare && i < count; ++i) {
      if (rare >> i & 1u) magnitudes_[i] = largest_zero_of_rare(bnb::load<float>(scales, i), limit_);
    }
    narrow();
  }
  BNB_INLINE void narrow() {
    if constexpr (Tag::kDType == DType::kBF16) store_int32(magnitudes_, shift_right<16>(load_int32(magnitudes_)));
    if constexpr (Tag::kDType == DType::kF16) {
      uint16_t nearest[kLanes];
      const Floats magnitudes = load<F32>(magnitudes_);
      store<F16>(nearest, magnitudes);
      const uint32_t too_large = mask_bits(greater(load<F16>(nearest), magnitudes));
      for (int i = 0; i < kLanes; ++i) magnitudes_[i] = nearest[i] - (too_large >> i & 1u);
    }
  }

  const QuantizeTernaryArgs &args_;
  float limit_;
  int64_t first_ = 0, known_ = 0, end_;  // magnitudes_ are those of blocks [first_, known_)
  uint32_t magnitudes_[kLanes];
};

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
  const char *p = static_cast<const char *>(args.a) + first * kSize;
  BlockLimits<Tag> limits(args, (last - 1) / args.blocksize);
  for (BlockParts part(first, last, args.blocksize); part.more(); part.next()) {
    encode_part<Tag>(limits.of(part.block), p, part.count(), ahead, codes);
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
