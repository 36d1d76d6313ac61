// SPDX-License-Identifier: MIT
// MX and NVFP4: the scales of blocks, out = encode(x * factor), and out = decode(code) * scale. EXACT.
//
// One byte per element, or two codes a byte, the first one in the low nibble (docs/formats.md). Blocks of 32 or 16 are
// whole vectors on every instruction set. Some blocks together: the largest magnitudes of all, then the scales of
// kLanes blocks at a time, then codes while the elements are in the cache. The few blocks without an ordinary factor
// are done again behind the others.
#include "formats/mx.h"

#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/scales.h"
#include "cpu/kernels/streaming.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// What scales say about kLanes blocks.
struct LaneScales {
  Ints codes;
  Floats factors;  // of elements
  Mask rare;       // where the factor cannot be used
};

BNB_INLINE Mask not_finite(Floats magnitudes) { return greater_uint(bits(magnitudes), splat_bits(kInfinityBits - 1)); }

// The rules of formats/mx.h.
template <typename Format>
struct MxScales {
  Ints rounding;
  bool of_quotient;
  BNB_INLINE explicit MxScales(const QuantizeMxArgs &args)
      : rounding(splat_bits(formats::mx::rounding<Format>(args.rule))), of_quotient(args.rule == BNB_MX_RCEIL) {}

  BNB_INLINE LaneScales operator()(Floats absmax) const {
    Ints codes;
    if (of_quotient) {
      const Ints quotient = bits(div(absmax, splat(Format::max_finite())));
      const Mask above_smallest =
          greater_uint(quotient, splat_bits(formats::bits_from_float(formats::e8m0::decode(0))));
      codes = select_int(above_smallest, shift_right<23>(add_int(quotient, rounding)), splat_int(0));
    } else {
      const Ints largest = splat_bits(formats::mx::largest_exponent<Format>());
      codes = sub_int(max_uint(shift_right<23>(add_int(bits(absmax), rounding)), largest), largest);
    }
    const Mask rare = not_finite(absmax);
    const Floats factors = from_bits(shift_left<23>(sub_int(splat_int(254), codes)));
    return {select_int(rare, splat_int(formats::e8m0::kNanCode), codes), factors, rare};
  }

  template <typename Tag>
  BNB_INLINE void encode_rare(const char *, float, uint8_t, char *out) const {
    std::memset(out, 0, size_t(formats::mx::kBlock * Format::kBits / 8));
  }
};

constexpr int64_t kNvfp4Bytes = formats::mx::kNvfp4Block / 2;

// The codes of a block of NVFP4 whose element x is scaled(x) times its scale.
template <typename Tag, typename Scaled>
BNB_INLINE void encode_nvfp4_block(const Scaled &scaled, const char *p, char *out) {
  constexpr int kVectors = formats::mx::kNvfp4Block / kLanes;
  Ints codes[4] = {splat_int(0), splat_int(0), splat_int(0), splat_int(0)};
  for (int i = 0; i < kVectors; ++i) {
    codes[i] = encode_saturating<E2M1>(scaled(load<Tag>(p + i * kLanes * int64_t(sizeof(typename Tag::Storage)))));
  }
  char bytes[2 * kLanes];
  store_nibbles(bytes, pack_uint8(codes[0], codes[1], codes[2], codes[3]));
  std::memcpy(out, bytes, size_t(kNvfp4Bytes));
}

// NVFP4, with a tensor scale that is neither 0 nor infinite nor NaN.
struct Nvfp4Scales {
  float tensor;
  Floats reciprocal;
  BNB_INLINE explicit Nvfp4Scales(float tensor_scale) : tensor(tensor_scale), reciprocal(splat(1.0f / tensor_scale)) {}

  // The codes are those of normal numbers.
  static BNB_INLINE Floats value_of(Ints codes) {
    return from_bits(add_int(shift_left<20>(codes), splat_bits(uint32_t(127 - E4M3FN::kBias) << 23)));
  }
  BNB_INLINE LaneScales operator()(Floats absmax) const {
    const Mask unknown = not_finite(absmax);
    const Floats known = select(unknown, splat(0.0f), absmax);
    const Floats scales = div(div(known, splat(E2M1::max_finite())), splat(tensor));
    const Ints codes = encode_saturating<E4M3FN>(max(scales, splat(formats::nvfp4::smallest_scale())));
    const Floats factors = div(reciprocal, value_of(codes));
    return {select_int(unknown, splat_int(E4M3FN::kNanCode), codes), factors, either(unknown, not_finite(factors))};
  }

  template <typename Tag>
  BNB_NOINLINE void encode_rare(const char *p, float absmax, uint8_t code, char *out) const {
    if (formats::bits_from_float(absmax) >= kInfinityBits) {
      std::memset(out, 0, size_t(kNvfp4Bytes));
      return;
    }
    const Floats scale = splat(formats::fp8::decode<E4M3FN>(code)), divisor = splat(tensor);
    encode_nvfp4_block<Tag>([&](Floats x) { return div(div(x, divisor), scale); }, p, out);
  }
};

// The largest magnitudes of `count` blocks, as bits. Those of NaN are above infinity.
template <typename Tag, int64_t kBlock>
BNB_INLINE void write_maxima(const char *p, int64_t count, uint32_t *maxima) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Ints mask = splat_bits(kMagnitudeBits);
  const auto largest = [&](int64_t block) {
    Ints lanes = splat_int(0);
    for (int64_t i = 0; i < kBlock; i += kLanes) {
      lanes = max_uint(lanes, and_int(bits(load<Tag>(p + (block * kBlock + i) * kSize)), mask));
    }
    return lanes;
  };
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {  // one reduction across lanes for four blocks
    reduce_max_uint(largest(i), largest(i + 1), largest(i + 2), largest(i + 3), maxima + i);
  }
  for (; i < count; ++i) maxima[i] = reduce_max_uint(largest(i));
}

// Writes the codes of the scales of `count` blocks and the factors of their elements. True if a block among them is
// rare.
template <typename Scales>
BNB_INLINE bool write_scales(const Scales &scales, const uint32_t *maxima, int64_t count, uint8_t *codes,
                             float *factors) {
  bool rare = false;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const LaneScales lanes = scales(load<F32>(maxima + i));
    store_uint8(codes + i, lanes.codes);
    store<F32>(factors + i, lanes.factors);
    rare |= any(lanes.rare);
  }
  if (i < count) {
    const LaneScales lanes = scales(load_some<F32>(maxima + i, count - i));
    store_uint8_some(codes + i, lanes.codes, count - i);
    store_some<F32>(factors + i, lanes.factors, count - i);
    rare |= any(lanes.rare);
  }
  return rare;
}

// Codes of four vectors.
template <typename Format>
BNB_INLINE void store_codes(char *out, const Ints (&codes)[4]) {
  const Bytes bytes = pack_uint8(codes[0], codes[1], codes[2], codes[3]);
  if constexpr (Format::kBits == 8) store_bytes(out, bytes);
  if constexpr (Format::kBits == 4) store_nibbles(out, bytes);
}

// Codes of `count` elements, whole blocks.
template <typename Format, int64_t kBlock, typename Tag>
BNB_INLINE void encode_blocks(const float *factors, const char *p, int64_t count, int64_t ahead, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kFour = 4 * kLanes;
  static_assert(kBlock % kLanes == 0, "no vector lies in two blocks");
  const auto code = [&](int64_t i) {
    return encode_saturating<Format>(mul(load<Tag>(p + i * kSize), splat(factors[i / kBlock])));
  };
  Ints codes[4];
  int64_t i = 0;
  for (; i + kFour <= count; i += kFour) {
    prefetch(p + i * kSize + ahead, kFour * kSize);
    for (int j = 0; j < 4; ++j) codes[j] = code(i + j * kLanes);
    store_codes<Format>(out + i * Format::kBits / 8, codes);
  }
  if (i == count) return;
  for (int j = 0; j < 4; ++j) codes[j] = i + j * kLanes < count ? code(i + j * kLanes) : splat_int(0);
  char rest[kFour];
  store_codes<Format>(rest, codes);
  std::memcpy(out + i * Format::kBits / 8, rest, size_t((count - i) * Format::kBits / 8));
}

template <typename Format, int64_t kBlock, typename Tag, typename Scales>
BNB_INLINE void quantize(const QuantizeMxArgs &args, const Scales &scales, int64_t begin, int64_t end) {
  constexpr int64_t kBlockSize = kBlock * int64_t(sizeof(typename Tag::Storage)),
                    kBlockBytes = kBlock * Format::kBits / 8;
  constexpr int64_t kTogether = kElementsTogether / kBlock;
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t last = last_byte / kBlockBytes;
    for (int64_t first = first_byte / kBlockBytes; first < last; first += kTogether) {
      const int64_t count = last - first < kTogether ? last - first : kTogether;
      const char *p = static_cast<const char *>(args.a) + first * kBlockSize;
      uint32_t maxima[kTogether];
      float factors[kTogether];
      write_maxima<Tag, kBlock>(p, count, maxima);
      const bool rare = write_scales(scales, maxima, count, args.scale + first, factors);
      encode_blocks<Format, kBlock, Tag>(factors, p, count * kBlock, bytes_ahead<Tag>((first + count) * kBlock, args.n),
                                         where);
      for (int64_t i = 0; rare && i < count; ++i) {
        const float largest = formats::float_from_bits(maxima[i]);
        if (!any(scales(splat(largest)).rare)) continue;
        scales.template encode_rare<Tag>(p + i * kBlockSize, largest, args.scale[first + i], where + i * kBlockBytes);
      }
      where += count * kBlockBytes;
    }
  };
  write_output(args.out, args.n / kBlock * kBlockBytes, begin * kBlockBytes, end * kBlockBytes, produce);
}

template <typename Format, typename Tag>
void quantize_mx_blocks(const QuantizeMxArgs &args, int64_t begin, int64_t end) {
  quantize<Format, formats::mx::kBlock, Tag>(args, MxScales<Format>(args), begin, end);
}

// A tensor with a scale of 0, infinity or NaN: zeros, but for the infinite elements of an infinite one.
template <typename Tag>
void quantize_odd_tensor(const QuantizeMxArgs &args, float tensor_scale, int64_t begin, int64_t end) {
  constexpr int64_t kBlockSize = formats::mx::kNvfp4Block * int64_t(sizeof(typename Tag::Storage));
  char *out = reinterpret_cast<char *>(args.out) + begin * kNvfp4Bytes;
  std::memset(args.scale + begin, formats::nvfp4::kSmallestScale, size_t(end - begin));
  if (formats::bits_from_float(tensor_scale) != kInfinityBits) {
    std::memset(out, 0, size_t((end - begin) * kNvfp4Bytes));
    return;
  }
  const Floats infinity = splat(tensor_scale);
  const auto only_infinities = [&](Floats x) { return select(equal(abs(x), infinity), x, splat(0.0f)); };
  const char *p = static_cast<const char *>(args.a) + begin * kBlockSize;
  for (int64_t block = begin; block < end; ++block, p += kBlockSize, out += kNvfp4Bytes) {
    encode_nvfp4_block<Tag>(only_infinities, p, out);
  }
}

template <typename Tag>
void quantize_nvfp4(const QuantizeMxArgs &args, int64_t begin, int64_t end) {
  const float tensor_scale = args.tensor_scale ? bnb::load<float>(args.tensor_scale, 0) : 1.0f;
  if (!is_ordinary(tensor_scale)) return quantize_odd_tensor<Tag>(args, tensor_scale, begin, end);
  quantize<E2M1, formats::mx::kNvfp4Block, Tag>(args, Nvfp4Scales(tensor_scale), begin, end);
}

template <typename Format, int64_t kBlock, typename Tag>
void dequantize(const DequantizeMxArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kBlockSize = kBlock * kSize,
                    kBlockBytes = kBlock * Format::kBits / 8;
  const auto codes = [](const uint8_t *p, int i) {
    if constexpr (Format::kBits == 8) return load_int8_shorts(p + i);
    if constexpr (Format::kBits == 4) return load_nibble_shorts(p + i / 2);
  };
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t last = last_byte / kBlockSize;
    const int64_t ahead = bytes_ahead<1>(last * kBlock, args.n) * Format::kBits / 8;
    for (int64_t first = first_byte / kBlockSize; first < last; first += kScalesAtOnce) {
      const int64_t count = last - first < kScalesAtOnce ? last - first : kScalesAtOnce;
      float buffer[kScalesAtOnce];
      const char *scales = scales_of(args.scales, first, count, buffer);
      const uint8_t *p = args.a + first * kBlockBytes;
      for (int64_t block = 0; block < count; ++block, p += kBlockBytes, where += kBlockSize) {
        const Floats scale = splat(bnb::load<float>(scales, block));
        prefetch(p + ahead, kBlockBytes);
        for (int i = 0; i < kBlock; i += kLanes)
          store<Tag>(where + i * kSize, mul(decode(Format{}, codes(p, i)), scale));
      }
    }
  };
  write_output(args.out, args.n * kSize, begin * kBlockSize, end * kBlockSize, produce);
}

}  // namespace

void quantize_mx(const QuantizeMxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_MXFP8_E4M3FN: return quantize_mx_blocks<E4M3FN, Tag>(args, begin, end);
      case BNB_MXFP8_E5M2: return quantize_mx_blocks<E5M2, Tag>(args, begin, end);
      case BNB_NVFP4: return quantize_nvfp4<Tag>(args, begin, end);
      default: return quantize_mx_blocks<E2M1, Tag>(args, begin, end);
    }
  });
}

void dequantize_mx(const DequantizeMxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_MXFP8_E4M3FN: return dequantize<E4M3FN, formats::mx::kBlock, Tag>(args, begin, end);
      case BNB_MXFP8_E5M2: return dequantize<E5M2, formats::mx::kBlock, Tag>(args, begin, end);
      case BNB_NVFP4: return dequantize<E2M1, formats::mx::kNvfp4Block, Tag>(args, begin, end);
      default: return dequantize<E2M1, formats::mx::kBlock, Tag>(args, begin, end);
    }
  });
}

}  // namespace bnb::cpu::BNB_ISA
