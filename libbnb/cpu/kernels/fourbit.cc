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
  uint32_t thresholds[15];
  uint8_t codes[16];  // by rank
  uint8_t zero_code;
  const uint32_t *values;
};

constexpr Format make_nf4() {
  Format format{};
  for (int i = 0; i < 15; ++i) format.thresholds[i] = formats::nf4::kThresholdBits[i];
  for (int i = 0; i < 16; ++i) format.codes[i] = uint8_t(i);
  format.zero_code = formats::nf4::kZeroCode;
  format.values = formats::nf4::kCodeBits;
  return format;
}

constexpr Format make_fp4() {
  Format format{};
  format.thresholds[7] = 0x80000001u;  // the largest number below zero: x above it is not negative
  for (int i = 0; i < 7; ++i) {
    format.thresholds[6 - i] = 0x80000000u | (formats::fp4::kThresholdBits[i] + 1);
    format.thresholds[8 + i] = formats::fp4::kThresholdBits[i];
  }
  for (int i = 0; i < 8; ++i) {
    format.codes[7 - i] = uint8_t(8 | formats::fp4::kMagnitudeCode[i]);
    format.codes[8 + i] = formats::fp4::kMagnitudeCode[i];
  }
  format.zero_code = formats::fp4::kZeroCode;
  format.values = formats::fp4::kCodeBits;
  return format;
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
BNB_INLINE void encode(const NibbleCoder &coder, const Normalise &normalise, const char *p, int64_t count, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  Floats x[4];
  for (; count >= kGroup; count -= kGroup, p += kGroup * kSize, out += kGroup / 2) {
    for (int i = 0; i < 4; ++i) x[i] = normalise(load<Tag>(p + i * kLanes * kSize));
    encode_nibbles(coder, x, out);
  }
  if (count == 0) return;
  load_group<Tag>(p, count, x);
  for (int i = 0; i < 4; ++i) x[i] = normalise(x[i]);
  encode_nibbles_some(coder, x, out, count);
}

// NaN is above no threshold: code 0 in both formats, but for the padding behind an odd last element.
BNB_INLINE void encode_nan(const Format &format, int64_t count, char *out) {
  std::memset(out, 0, size_t(count / 2));
  if (count % 2) out[count / 2] = char(format.zero_code);
}

template <typename Tag>
void quantize(const Quantize4bitArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Format &format = format_of(args.quant_type);
  const NibbleCoder coder = make_nibble_coder(format.thresholds, format.codes);
  const char *a = static_cast<const char *>(args.a);
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t start = first_byte * 2, stop = last_byte * 2 < args.n ? last_byte * 2 : args.n;
    for_blocks(start, stop, args.blocksize, [&](int64_t block, int64_t first, int64_t last) {
      const float absmax = bnb::load<float>(args.absmax, block);
      char *out = where + (first - start) / 2;
      if (absmax != absmax) return encode_nan(format, last - first, out);
      with_normaliser(absmax, [&](const auto &normalise) {
        encode<Tag>(coder, normalise, a + first * kSize, last - first, out);
      });
    });
  };
  write_output(args.out, ceil_div(args.n, 2), begin / 2, ceil_div(end, 2), produce);
}

template <typename Tag>
void dequantize(const Dequantize4bitArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kCount = NibbleTable<Tag>::kCount;
  const uint32_t *values = format_of(args.quant_type).values;
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t start = first_byte / kSize;
    for_blocks(start, last_byte / kSize, args.blocksize, [&](int64_t block, int64_t first, int64_t last) {
      const NibbleTable<Tag> table = make_nibble_table<Tag>(values, args.absmax.at(block));
      const uint8_t *p = args.a + first / 2;
      char *out = where + (first - start) * kSize;
      int64_t count = last - first;
      for (; count >= kCount; count -= kCount, p += kCount / 2, out += kCount * kSize) expand_nibbles(table, p, out);
      if (count) expand_nibbles_some(table, p, out, count);
    });
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
