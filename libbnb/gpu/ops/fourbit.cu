// SPDX-License-Identifier: MIT
// NF4 and FP4 quantization. Element 2i lies in the high nibble of byte i, element 2i + 1 in the low one. EXACT.
//
// Encoding: an element of 16 bits moves 2.5 bytes, so that a multiprocessor of an H200 has to encode eight a clock. Fifteen
// comparisons each would be more than it can do. Thresholds are at least 1/16 apart, though: x' falls into one of 33 buckets of that
// width, which holds one threshold or none, and its code is what lies below the bucket, plus one comparison. The function that
// finds the bucket only has to be monotonic: then all thresholds of lower buckets are below x', and those of higher ones are not.
// Here it rounds 16 x' to an integer, in the lowest bits of a float.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "gpu/dequantize_blocks.h"
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

constexpr int kBuckets = 64;  // of which 33 are used: lanes hardly ever wait for each other
constexpr int kCodes4bit = 16;

struct Nf4 {
  enum : int { kThresholds = 15 };
  static BNB_DEVICE_METHOD float threshold(int i) { return formats::float_from_bits(formats::nf4::kThresholdBits[i]); }
  static BNB_DEVICE_METHOD float code_value(int code) { return formats::nf4::decode(uint8_t(code)); }

  static BNB_DEVICE_METHOD float lowest() { return -1.0f; }
  static BNB_DEVICE_METHOD float compared(float unit) { return unit; }
  static BNB_DEVICE_METHOD uint32_t code(float, uint32_t rank) { return rank; }
};

// Low three bits of the codes of ascending magnitudes, three bits apiece.
constexpr uint32_t magnitude_codes() {
  uint32_t codes = 0;
  for (int rank = 0; rank < 8; ++rank) codes |= uint32_t(formats::fp4::kMagnitudeCode[rank]) << (3 * rank);
  return codes;
}

struct Fp4 {
  enum : int { kThresholds = 7 };
  static BNB_DEVICE_METHOD float threshold(int i) { return formats::float_from_bits(formats::fp4::kThresholdBits[i]); }
  static BNB_DEVICE_METHOD float code_value(int code) { return formats::fp4::decode(uint8_t(code)); }

  static BNB_DEVICE_METHOD float lowest() { return 0.0f; }
  static BNB_DEVICE_METHOD float compared(float unit) { return unit < 0.0f ? -unit : unit; }
  static BNB_DEVICE_METHOD uint32_t code(float unit, uint32_t rank) {
    constexpr uint32_t kCodes = magnitude_codes();
    return (kCodes >> (3 * rank) & 7u) | (unit < 0.0f ? 8u : 0u);
  }
};

template <typename Format>
struct Encode4bit {
  struct Args {};
  struct Bucket {
    float threshold;  // NaN if there is none
    uint32_t below;   // thresholds in lower buckets
  };
  struct Shared {
    alignas(8) Bucket buckets[kBuckets];
  };

  const Shared &shared;

  static BNB_DEVICE_METHOD int bucket_of(float compared) {
    constexpr float kAligner = 0x1p23f;  // whose ulp is 1
    const float place = fmaf(compared, 16.0f, kAligner - 16.0f * Format::lowest());
    return int(formats::bits_from_float(place) % kBuckets);
  }
  BNB_DEVICE_METHOD Encode4bit(const Args &, Shared &to_fill) : shared(to_fill) {
    for (int bucket = int(thread_index()); bucket < kBuckets; bucket += int(thread_count())) {
      float inside = formats::float_from_bits(0x7FC00000u);
      uint32_t below = 0;
      for (int i = 0; i < Format::kThresholds; ++i) {
        const float threshold = Format::threshold(i);
        const int its = bucket_of(threshold);
        if (its < bucket) ++below;
        if (its == bucket) inside = threshold;
      }
      to_fill.buckets[bucket] = {inside, below};
    }
  }
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  BNB_DEVICE_METHOD uint32_t encode(float unit) const {
    const float compared = Format::compared(unit);
    const Bucket bucket = shared.buckets[bucket_of(compared)];
    return Format::code(unit, bucket.below + (compared > bucket.threshold ? 1u : 0u));
  }
  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit, bool numbers) const {
    float x[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) x[j] = unit[j];
    if (!numbers || count < kItems) {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) {
        if (!(x[j] == x[j])) x[j] = Format::lowest();  // NaN is above no threshold
        if (j >= count) x[j] = 0.0f;                   // a missing last element is the code of zero
      }
    }
    uint32_t codes[kItems / 8] = {};
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j / 8] |= encode(x[j]) << ((j % 8 ^ 1) * 4);
    store_words<kItems / 8>(out, i / 2, (count + 1) / 2, codes);
  }
};

template <typename Format>
struct Decode4bit {
  struct Args {
    const uint8_t *a;
  };
  struct Shared {
    float value[kCodes4bit];
  };

  const uint8_t *a;
  const Shared &shared;

  BNB_DEVICE_METHOD Decode4bit(const Args &args, Shared &to_fill) : a(args.a), shared(to_fill) {
    for (int code = int(thread_index()); code < kCodes4bit; code += int(thread_count())) {
      to_fill.value[code] = Format::code_value(code);
    }
  }
  BNB_DEVICE_METHOD void read(int64_t i, int64_t count, float *x) const {
    static_assert(kDecodeItems == 8, "a word of codes");
    uint32_t codes;
    load_words<1>(a, i / 2, (count + 1) / 2, &codes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems; ++j) x[j] = shared.value[codes >> ((j ^ 1) * 4) & 15u];
  }
};

template <typename Tag, typename Format>
bnb_status quantize(const Quantize4bitArgs &args, const Queue &queue) {
  const int64_t bytes = ceil_div(args.n, 2);
  const bnb_status status = set_bytes(queue, args.out + bytes, 0, size_t(args.out_bytes - bytes));
  if (status != BNB_OK) return status;
  const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.absmax};
  return quantize_blocks<Tag, Encode4bit<Format>>(blocks, {}, queue);
}

}  // namespace

bnb_status quantize_4bit(const Quantize4bitArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    status = args.quant_type == BNB_NF4 ? quantize<Tag, Nf4>(args, queue) : quantize<Tag, Fp4>(args, queue);
  });
  return status;
}

bnb_status dequantize_4bit(const Dequantize4bitArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    status = args.quant_type == BNB_NF4
                 ? dequantize_blocks<Tag, Decode4bit<Nf4>>({args.a}, args.absmax, args.blocksize, args.n, args.out, queue)
                 : dequantize_blocks<Tag, Decode4bit<Fp4>>({args.a}, args.absmax, args.blocksize, args.n, args.out, queue);
  });
  return status;
}

}  // namespace bnb::gpu
