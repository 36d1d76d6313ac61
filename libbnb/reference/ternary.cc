// SPDX-License-Identifier: MIT
// Ternary quantization, written to be read.
#include "core/sums.h"
#include "formats/ternary.h"
#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using namespace formats::ternary;

// |a| of elements [first, last), summed in the order of core/sums.h.
template <typename Tag>
double sum_of_magnitudes(const void *a, int64_t first, int64_t last) {
  double sum = 0.0;
  for (int64_t piece = first; piece < last; piece += kSumPiece) {
    double lanes[kSumLanes] = {};
    for (int64_t i = piece; i < last && i < piece + kSumPiece; ++i) {
      lanes[(i - piece) % kSumLanes] += double(std::fabs(load_float<Tag>(a, i)));
    }
    for (int64_t half = kSumLanes / 2; half > 0; half /= 2) {
      for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    sum += lanes[0];
  }
  return sum;
}

struct Encoder {
  const QuantizeTernaryArgs &args;

  // The code of element i.
  template <typename Tag>
  uint8_t at(int64_t i) const {
    const float limit = args.rule == BNB_ABSMEAN ? limit_of_absmean() : limit_of_absmax();
    return encode(normalise(load_float<Tag>(args.a, i), scale_of(i)), limit);
  }
  float scale_of(int64_t i) const { return load<float>(args.scale, i / args.blocksize); }
};

template <typename Tag>
void quantize_two_bits(const QuantizeTernaryArgs &args, int64_t begin, int64_t end) {
  for (int64_t first = begin; first < end; first += TwoBits::kCodes) {
    uint8_t byte = 0;
    for (int j = 0; j < TwoBits::kCodes; ++j) {
      const uint8_t code = first + j < args.n ? Encoder{args}.at<Tag>(first + j) : uint8_t(kZeroCode);
      byte = uint8_t(byte | TwoBits::bits(code, j));
    }
    args.out[first / TwoBits::kCodes] = byte;
  }
}

void pack(TQ2, const uint8_t *codes, uint8_t *bytes) {
  for (int i = 0; i < TQ2::kCodeBytes; ++i) bytes[i] = 0;
  for (int weight = 0; weight < kBlock; ++weight) {
    const Place place = TQ2::place_of(weight);
    bytes[place.byte] = uint8_t(bytes[place.byte] | TwoBits::bits(codes[weight], place.index));
  }
}

void pack(TQ1, const uint8_t *codes, uint8_t *bytes) {
  int numbers[TQ1::kCodeBytes] = {};
  for (int weight = 0; weight < kBlock; ++weight) {
    const Place place = TQ1::place_of(weight);
    numbers[place.byte] += codes[weight] * TQ1::weight_of(place.index);
  }
  for (int i = 0; i < TQ1::kCodeBytes; ++i) bytes[i] = TQ1::byte_of(numbers[i]);
}

template <typename Layout, typename Tag>
void quantize_blocks(const QuantizeTernaryArgs &args, int64_t begin, int64_t end) {
  for (int64_t first = begin; first < end; first += kBlock) {
    uint8_t codes[kBlock], *block = args.out + first / kBlock * Layout::kBytes;
    for (int weight = 0; weight < kBlock; ++weight) codes[weight] = Encoder{args}.at<Tag>(first + weight);
    pack(Layout{}, codes, block);
    const uint16_t half = formats::fp16_from_float(Encoder{args}.scale_of(first));
    block[Layout::kCodeBytes] = uint8_t(half);
    block[Layout::kCodeBytes + 1] = uint8_t(half >> 8);
  }
}

template <typename Tag>
void dequantize_two_bits(const DequantizeTernaryArgs &args, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t code = TwoBits::code(args.a[i / TwoBits::kCodes], int(i % TwoBits::kCodes));
    store_float<Tag>(args.out, i, float(value(code)) * load<float>(args.scale, i / args.blocksize));
  }
}

template <typename Layout, typename Tag>
void dequantize_blocks(const DequantizeTernaryArgs &args, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t *block = args.a + i / kBlock * Layout::kBytes;
    const Place place = Layout::place_of(int(i % kBlock));
    const uint16_t half = uint16_t(block[Layout::kCodeBytes] | block[Layout::kCodeBytes + 1] << 8);
    const uint8_t code = Layout::code(block[place.byte], place.index);
    store_float<Tag>(args.out, i, float(value(code)) * formats::float_from_fp16(half));
  }
}

}  // namespace

void absmean(const AbsmeanArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args.blocksize;
      const int64_t last = args.n - first < args.blocksize ? args.n : first + args.blocksize;
      const double sum = sum_of_magnitudes<decltype(tag)>(args.a, first, last);
      if (args.sums) args.sums[block] = sum;
      if (args.mean) store<float>(args.mean, block, mean_of(sum, last - first));
    }
  });
}

void quantize_ternary(const QuantizeTernaryArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_TQ1_0: return quantize_blocks<TQ1, Tag>(args, begin, end);
      case BNB_TQ2_0: return quantize_blocks<TQ2, Tag>(args, begin, end);
      default: return quantize_two_bits<Tag>(args, begin, end);
    }
  });
}

void dequantize_ternary(const DequantizeTernaryArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_TQ1_0: return dequantize_blocks<TQ1, Tag>(args, begin, end);
      case BNB_TQ2_0: return dequantize_blocks<TQ2, Tag>(args, begin, end);
      default: return dequantize_two_bits<Tag>(args, begin, end);
    }
  });
}

}  // namespace bnb::reference
