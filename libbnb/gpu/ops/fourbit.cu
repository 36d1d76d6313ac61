// SPDX-License-Identifier: MIT
// NF4 and FP4 quantization. Element 2i lies in the high nibble of byte i, element 2i + 1 in the low one. EXACT.
//
// Encoding: an element of 16 bits moves 2.5 bytes, so that a multiprocessor of an H200 has to encode eight a clock. Fifteen
// comparisons each would be more than it can do. Thresholds are at least 1/16 apart, though: x' falls into one of 32 buckets of that
// width, which holds one threshold or none, and its code is what lies below the bucket, plus one comparison. The function that
// finds the bucket only has to be monotonic: then all thresholds of lower buckets are below x', and those of higher ones are not.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "gpu/dequantize_blocks.h"
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

constexpr int kBuckets = 32;  // as many as banks of shared memory: no two lanes wait for each other
constexpr int kCodes4bit = 16;

struct Nf4 {
  enum : int { kThresholds = 15 };
  static BNB_DEVICE_METHOD float threshold(int i) { return formats::float_from_bits(formats::nf4::kThresholdBits[i]); }
  static BNB_DEVICE_METHOD float code_value(int code) { return formats::nf4::decode(uint8_t(code)); }

  // -1 .. 1 in steps of 1/16; NaN is in bucket 0, above nothing.
  static BNB_DEVICE_METHOD float place(float unit) { return fmaf(unit, 16.0f, 16.0f); }
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

  static BNB_DEVICE_METHOD float place(float magnitude) { return magnitude * 16.0f; }
  static BNB_DEVICE_METHOD float compared(float unit) { return unit < 0.0f ? -unit : unit; }
  static BNB_DEVICE_METHOD uint32_t code(float unit, uint32_t rank) {
    constexpr uint32_t kCodes = magnitude_codes();
    return (kCodes >> (3 * rank) & 7u) | (unit < 0.0f ? 8u : 0u);
  }
};

template <typename Format>
struct Encode4bit {
  struct Args {};
  struct Shared {
    float threshold[kBuckets];  // NaN where there is none
    uint32_t below[kBuckets];   // thresholds in lower buckets
  };

  const Shared &shared;

  static BNB_DEVICE_METHOD int bucket_of(float compared) {
    return int(fminf(fmaxf(Format::place(compared), 0.0f), float(kBuckets - 1)));
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
      to_fill.threshold[bucket] = inside;
      to_fill.below[bucket] = below;
    }
  }
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  BNB_DEVICE_METHOD uint32_t encode(float unit) const {
    const float compared = Format::compared(unit);
    const int bucket = bucket_of(compared);
    return Format::code(unit, shared.below[bucket] + (compared > shared.threshold[bucket] ? 1u : 0u));
  }
  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit) const {
    const int have = count < kItems ? int(count) : kItems;
    uint8_t bytes[kItems / 2];
    BNB_UNROLL
    for (int j = 0; j < kItems; j += 2) {
      const uint32_t low = encode(j + 1 < have ? unit[j + 1] : 0.0f);  // a missing last element is the code of zero
      bytes[j / 2] = uint8_t(encode(unit[j]) << 4 | low);
    }
    store_bytes<kItems / 2>(out, i / 2, (count + 1) / 2, bytes);
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
    uint8_t bytes[kDecodeItems / 2];
    load_bytes<kDecodeItems / 2>(a, i / 2, (count + 1) / 2, bytes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems / 2; ++j) {
      x[2 * j] = shared.value[bytes[j] >> 4];
      x[2 * j + 1] = shared.value[bytes[j] & 15];
    }
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
