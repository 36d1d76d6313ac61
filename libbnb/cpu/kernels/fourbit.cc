// SPDX-License-Identifier: MIT
// NF4 and FP4: two codes a byte, the first one in the high nibble (docs/formats.md). EXACT.
//
// Quantize: the rank of x' among 15 thresholds, in four steps, then the code of that rank. FP4 is a sign and a rank among seven
// magnitudes; written as one ladder, its negative thresholds are one ulp further out, because there a tie goes up.
// Dequantize: a block has only sixteen values: they are multiplied and rounded once, the rest is looking up.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streaming.h"
#include "formats/fp4.h"
#include "formats/nf4.h"

namespace bnb::cpu::BNB_ISA {
namespace {

struct Format {
  NibblePlan coding;
  uint8_t zero_code;
  const uint32_t *values;
};

constexpr Format make_nf4() {
  NibbleFormat coding{};
  for (int i = 0; i < 15; ++i) coding.thresholds[i] = formats::nf4::kThresholdBits[i];
  for (int i = 0; i < 16; ++i) coding.codes[i] = uint8_t(i);
  return {make_nibble_plan(coding), formats::nf4::kZeroCode, formats::nf4::kCodeBits};
}

constexpr Format make_fp4() {
  NibbleFormat coding{};
  coding.thresholds[7] = 0x80000001u;  // the largest number below zero: x above it is not negative
  for (int i = 0; i < 7; ++i) {
    coding.thresholds[6 - i] = 0x80000000u | (formats::fp4::kThresholdBits[i] + 1);
    coding.thresholds[8 + i] = formats::fp4::kThresholdBits[i];
  }
  for (int i = 0; i < 8; ++i) {
    coding.codes[7 - i] = uint8_t(8 | formats::fp4::kMagnitudeCode[i]);
    coding.codes[8 + i] = formats::fp4::kMagnitudeCode[i];
  }
  coding.by_magnitude = true;
  return {make_nibble_plan(coding), formats::fp4::kZeroCode, formats::fp4::kCodeBits};
}

constexpr Format kNF4 = make_nf4(), kFP4 = make_fp4();
BNB_INLINE const Format &format_of(bnb_quant_type quant_type) { return quant_type == BNB_NF4 ? kNF4 : kFP4; }

constexpr int64_t kGroup = 4 * kLanes;

// Up to kGroup elements, zeros behind them.
template <typename Tag>
BNB_INLINE void load_group(const char *p, int64_t count, Floats (&x)[4]) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  for (int i = 0; i < 4; ++i, count -= kLanes, p += kLanes * kSize) {
    x[i] = count >= kLanes ? load<Tag>(p) : count > 0 ? load_some<Tag>(p, count) : splat(0.0f);
  }
}

// Codes of `count` elements of one block. Behind an odd last one comes the code of zero, which is what x = 0 gives.
template <typename Tag, typename Normalise>
BNB_INLINE void encode(const NibbleCoder &coder, const Normalise &normalise, const char *p, int64_t count, int64_t ahead,
                       char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  Floats x[4];
  for (; count >= kGroup; count -= kGroup, p += kGroup * kSize, out += kGroup / 2) {
    prefetch(p + ahead, kGroup * kSize);
    for (int i = 0; i < 4; ++i) x[i] = normalise(load<Tag>(p + i * kLanes * kSize));
    encode_nibbles(coder, x, out);
  }
  if (count == 0) return;
  load_group<Tag>(p, count, x);
  for (int i = 0; i < 4; ++i) x[i] = normalise(x[i]);
  encode_nibbles_some(coder, x, out, count);
}

// NaN is above no threshold: code 0 in both formats, but for the padding behind an odd last element.
template <typename Tag>
BNB_NOINLINE void encode_rare(const Format &format, const NibbleCoder &coder, float absmax, const char *p, int64_t count,
                              char *out) {
  if (absmax == absmax) return encode<Tag>(coder, make_rare(absmax), p, count, 0, out);
  std::memset(out, 0, size_t(count / 2));
  if (count % 2) out[count / 2] = char(format.zero_code);
}

template <typename Tag>
void quantize(const Quantize4bitArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Format &format = format_of(args.quant_type);
  const NibbleCoder coder = make_nibble_coder(format.coding);
  const int64_t ahead = bytes_ahead<Tag>(end, args.n);
  const char *p = static_cast<const char *>(args.a) + begin * kSize;
  char *out = reinterpret_cast<char *>(args.out) + begin / 2;
  for (BlockParts part(begin, end, args.blocksize); part.more(); part.next()) {
    const float absmax = bnb::load<float>(args.absmax, part.block), reciprocal = 1.0f / absmax;
    if (is_ordinary(reciprocal)) {
      encode<Tag>(coder, Ordinary{splat(reciprocal)}, p, part.count(), ahead, out);
    } else {
      encode_rare<Tag>(format, coder, absmax, p, part.count(), out);
    }
    p += part.count() * kSize;
    out += part.count() / 2;
  }
}

template <typename Tag>
void dequantize(const Dequantize4bitArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kCount = NibbleTable<Tag>::kCount;
  const uint32_t *values = format_of(args.quant_type).values;
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const uint8_t *p = args.a + first_byte / kSize / 2;
    for (BlockParts part(first_byte / kSize, last_byte / kSize, args.blocksize); part.more(); part.next()) {
      const NibbleTable<Tag> table = make_nibble_table<Tag>(values, args.absmax.at(part.block));
      int64_t count = part.count();
      for (; count >= kCount; count -= kCount, p += kCount / 2, where += kCount * kSize) expand_nibbles(table, p, where);
      if (count) expand_nibbles_some(table, p, where, count);
      p += count / 2;
      where += count * kSize;
    }
  };
  write_output(args.out, args.n * kSize, begin * kSize, end * kSize, produce);
}

}  // namespace

void quantize_4bit(const Quantize4bitArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) { quantize<decltype(tag)>(args, begin, end); });
}

void dequantize_4bit(const Dequantize4bitArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) { dequantize<decltype(tag)>(args, begin, end); });
}

}  // namespace bnb::cpu::BNB_ISA
