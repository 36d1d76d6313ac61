// SPDX-License-Identifier: MIT
// Ternary quantization in three layouts (formats/ternary.h): the scale of each block, absmax or the mean of |a|, then codes. EXACT.
#include "formats/ternary.h"

#include "gpu/absmean.h"
#include "gpu/dequantize_blocks.h"
#include "gpu/four.h"
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

using namespace formats::ternary;

struct EncodeTwoBits {
  struct Args {
    float limit;
  };
  struct Shared {};

  float limit;

  BNB_DEVICE_METHOD EncodeTwoBits(const Args &args, Shared &) : limit(args.limit) {}
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  // Missing last elements are zeros, which is what 0 and NaN are encoded as.
  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit, bool) const {
    static_assert(kItems == 4 * TwoBits::kCodes, "a word of codes");
    uint32_t codes = 0;
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes |= uint32_t(encode(unit[j], limit)) << (2 * j);
    store_words<1>(out, i / TwoBits::kCodes, (count + TwoBits::kCodes - 1) / TwoBits::kCodes, &codes);
  }
};

// Weights whose codes share a byte of a GGUF block: `count` of them, `stride` apart. Four neighbouring bytes, the first of which is a
// multiple of 4, have neighbouring weights.
struct Digits {
  int first, stride, count;
};
BNB_DEVICE Digits digits_of(TQ2, int byte) {
  return {byte / TQ2::kRow * (TwoBits::kCodes * TQ2::kRow) + byte % TQ2::kRow, TQ2::kRow, TwoBits::kCodes};
}
BNB_DEVICE Digits digits_of(TQ1, int byte) {
  if (byte < TQ1::kFirst) return {byte, TQ1::kFirst, TQ1::kDigits};
  if (byte < TQ1::kFirst + TQ1::kSecond) return {TQ1::kSecondWeight + byte - TQ1::kFirst, TQ1::kSecond, TQ1::kDigits};
  return {TQ1::kThirdWeight + byte - TQ1::kFirst - TQ1::kSecond, TQ1::kThird, TQ1::kDigits - 1};
}
BNB_DEVICE int part_of_byte(TQ2, uint8_t code, int index) { return TwoBits::bits(code, index); }
BNB_DEVICE int part_of_byte(TQ1, uint8_t code, int index) { return code * TQ1::weight_of(index); }
BNB_DEVICE uint8_t whole_byte(TQ2, int sum) { return uint8_t(sum); }
BNB_DEVICE uint8_t whole_byte(TQ1, int sum) { return TQ1::byte_of(sum); }

// Threads that share a GGUF block: each makes four bytes, of up to 20 weights that it reads four at a time. The bytes are stored two at a
// time, as blocks of 66 and 54 bytes lie.
constexpr int kGgufThreads = 16;
constexpr int kGgufAtOnce = kQuantizeThreads / kGgufThreads;
constexpr int kMostDigits = TQ1::kDigits;

template <typename Tag>
BNB_DEVICE void load_digits(const void *a, int64_t first, const Digits &digits, float (*x)[kFour]) {
  RawFour raw[kMostDigits];
  BNB_UNROLL
  for (int index = 0; index < kMostDigits; ++index) {
    const int64_t i = first + digits.first + index * digits.stride;
    raw[index] = load_four(Tag::kDType, a, i, index < digits.count ? kFour : 0);
  }
  BNB_UNROLL
  for (int index = 0; index < kMostDigits; ++index) widen_four(Tag::kDType, raw[index], x[index]);
}

template <typename Layout, typename Tag>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads) encode_gguf(BlockArgs args, Divisor blocksize, float limit) {
  const int byte = int(thread_index()) % kGgufThreads * kFour;
  const Digits digits = digits_of(Layout{}, byte);
  const int64_t blocks = args.n / kBlock;
  for (int64_t first = int64_t(grid_index()) * kGgufAtOnce; first < blocks; first += int64_t(grid_count()) * kGgufAtOnce) {
    const int64_t block = first + thread_index() / kGgufThreads;
    if (block >= blocks || byte >= Layout::kCodeBytes) continue;
    const float scale = load<float>(args.scale, blocksize.of(block * kBlock));
    float x[kMostDigits][kFour];
    load_digits<Tag>(args.a, block * kBlock, digits, x);
    const Normaliser unit(scale);
    int sums[kFour] = {};
    BNB_UNROLL
    for (int index = 0; index < kMostDigits; ++index) {
      BNB_UNROLL
      for (int k = 0; k < kFour; ++k) {
        const float normal = unit.is_product() ? x[index][k] * unit.reciprocal() : unit(x[index][k]);
        const int part = part_of_byte(Layout{}, encode(normal, limit), index);
        sums[k] += index < digits.count ? part : 0;
      }
    }
    uint8_t *out = args.out + block * Layout::kBytes;
    BNB_UNROLL
    for (int k = 0; k < kFour; k += 2) {
      store(out + byte + k, 0, uint16_t(whole_byte(Layout{}, sums[k]) | whole_byte(Layout{}, sums[k + 1]) << 8));
    }
    if (byte == 0) store(out + Layout::kCodeBytes, 0, formats::fp16_from_float(scale));  // exact, NaN included
  }
}

template <typename Tag>
bnb_status measure(const QuantizeTernaryArgs &args, const BlockArgs &blocks, const Queue &queue) {
  if (args.rule == BNB_ABSMEAN) return measure_means<Tag>({args.a, args.n, args.blocksize, blocks.scale}, queue);
  return measure_scales<Tag, EncodeTwoBits>(blocks, {0.0f}, queue);
}

template <typename Tag>
bnb_status quantize(const QuantizeTernaryArgs &args, const Queue &queue) {
  if (args.n == 0) return BNB_OK;
  const float limit = args.rule == BNB_ABSMEAN ? limit_of_absmean() : limit_of_absmax();
  const Workspace scales(queue, args.scale ? 0 : size_t(block_count(args.n, args.blocksize)) * sizeof(float));
  if (scales.status() != BNB_OK) return scales.status();
  const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.scale ? args.scale : scales.data()};
  if (args.quant_type == BNB_TERNARY && args.rule == BNB_ABSMAX) {
    return quantize_blocks<Tag, EncodeTwoBits>(blocks, {limit}, queue);
  }
  const bnb_status status = measure<Tag>(args, blocks, queue);
  if (status != BNB_OK) return status;
  const Divisor blocksize(args.blocksize);
  const Grid over_gguf{blocks_for(queue, ceil_div(args.n / kBlock, kGgufAtOnce), 8), kQuantizeThreads};
  switch (args.quant_type) {
    case BNB_TQ1_0: return launch(encode_gguf<TQ1, Tag>, over_gguf, queue, blocks, blocksize, limit);
    case BNB_TQ2_0: return launch(encode_gguf<TQ2, Tag>, over_gguf, queue, blocks, blocksize, limit);
    default:
      return launch(encode_any<Tag, EncodeTwoBits>, quantize_grid(queue, args.n), queue, blocks, blocksize,
                    EncodeTwoBits::Args{limit});
  }
}

struct DecodeTwoBits {
  struct Args {
    const uint8_t *a;
  };
  struct Shared {};

  const uint8_t *a;

  BNB_DEVICE_METHOD DecodeTwoBits(const Args &args, Shared &) : a(args.a) {}
  BNB_DEVICE_METHOD void read(int64_t i, int64_t count, float *x) const {
    constexpr int kBytes = kDecodeItems / TwoBits::kCodes;
    uint8_t bytes[kBytes];
    load_bytes<kBytes>(a, i / TwoBits::kCodes, (count + TwoBits::kCodes - 1) / TwoBits::kCodes, bytes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems; ++j) x[j] = float(value(TwoBits::code(bytes[j / TwoBits::kCodes], j % TwoBits::kCodes)));
  }
};

// Layout::code, with the powers of 3 as the bytes of a word.
BNB_DEVICE uint8_t code_of(TQ2, uint32_t byte, int index) { return TQ2::code(uint8_t(byte), index); }
BNB_DEVICE uint8_t code_of(TQ1, uint32_t byte, int index) {
  const uint32_t power = uint32_t(uint64_t{0x511B090301} >> (8 * index)) & 0xFFu;
  return uint8_t((byte * power & 0xFFu) * 3 >> 8);
}

template <typename Layout>
struct DecodeGguf {
  struct Args {
    const uint8_t *a;
  };
  struct Shared {};

  const uint8_t *a;

  BNB_DEVICE_METHOD DecodeGguf(const Args &args, Shared &) : a(args.a) {}
  // Four neighbouring weights have the same place in four neighbouring bytes.
  BNB_DEVICE_METHOD void read(int64_t i, int64_t, float *x) const {
    const uint8_t *block = a + i / kBlock * Layout::kBytes;
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems; j += 4) {
      const Place place = Layout::place_of(int(i % kBlock) + j);
      const uint32_t low = load<uint16_t>(block + place.byte, 0), high = load<uint16_t>(block + place.byte, 1);
      BNB_UNROLL
      for (int k = 0; k < 4; ++k) {
        const uint32_t byte = (k < 2 ? low : high) >> (k % 2 * 8) & 0xFFu;
        x[j + k] = float(value(code_of(Layout{}, byte, place.index)));
      }
    }
  }
};

// The scales that lie in the blocks.
template <typename Layout>
struct GgufScales {
  const uint8_t *a;
  BNB_DEVICE_METHOD float at(int64_t block) const {
    const uint8_t *scale = a + block * Layout::kBytes + Layout::kCodeBytes;
    return formats::float_from_fp16(uint16_t(scale[0] | scale[1] << 8));
  }
};

template <typename Tag, typename Layout>
bnb_status dequantize_gguf(const DequantizeTernaryArgs &args, const Queue &queue) {
  return dequantize_blocks<Tag, DecodeGguf<Layout>>({args.a}, GgufScales<Layout>{args.a}, kBlock, args.n, args.out, queue);
}

}  // namespace

bnb_status quantize_ternary(const QuantizeTernaryArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) { status = quantize<decltype(tag)>(args, queue); });
  return status;
}

bnb_status dequantize_ternary(const DequantizeTernaryArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_TQ1_0: status = dequantize_gguf<Tag, TQ1>(args, queue); break;
      case BNB_TQ2_0: status = dequantize_gguf<Tag, TQ2>(args, queue); break;
      default:
        status = dequantize_blocks<Tag, DecodeTwoBits>({args.a}, PlainScales{args.scale}, args.blocksize, args.n, args.out, queue);
    }
  });
  return status;
}

}  // namespace bnb::gpu
