// SPDX-License-Identifier: MIT
// OCP microscaling (MXFP4, MXFP8) and NVFP4: blocks of 32 or 16 elements, scales of 8 bits. A block lies in the registers of one
// thread or of two neighbours, so that each element is read once; the scale of an NVFP4 tensor takes a read of its own. EXACT.
#include "formats/mx.h"
#include "gpu/decode_fp8.h"
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

using formats::E2M1;
using formats::fp8::E4M3FN;
using formats::fp8::E5M2;
static_assert(formats::mx::kBlock == 2 * kItems && formats::mx::kNvfp4Block == kItems, "threads that share a block");

// The code of a number, as formats/e2m1.h says. Adding 2^22, 2^23 or 2^24, whose ulps are the distances of E2M1 numbers below 2, below 4
// and from there on, rounds to one of them; the exponent of the sum tells which, and its lowest bits how many such distances.
BNB_DEVICE uint32_t e2m1_code(float x) {
  constexpr uint32_t kOne = 127u << 23, kExponent = 0xFFu << 23;
  const float magnitude = fminf(fabsf(x), E2M1::max_finite());
  const uint32_t exponent = formats::bits_from_float(magnitude) & kExponent;
  const float aligner = formats::float_from_bits((exponent > kOne ? exponent : kOne) + (22u << 23));
  const uint32_t sum = formats::bits_from_float(magnitude + aligner);
  constexpr uint32_t kOfOne = 2 * (127 + 22);  // what sum >> 22 is for numbers below 2
  return ((sum + (sum >> 22) - kOfOne) & 7u) | (formats::bits_from_float(x) >> 28 & 8u);
}

BNB_DEVICE bool is_infinite(float x) { return magnitude_bits(x) == 0x7F800000u; }
BNB_DEVICE bool is_finite(float x) { return magnitude_bits(x) < 0x7F800000u; }

// How the elements of a block are turned into codes.
struct BlockScale {
  float factor = 0.0f;               // x is multiplied by this,
  float tensor = 0.0f, block = 0.0f;  // or divided by these two where it is infinite;
  bool only_infinities = false;      // elements are infinite or zero,
  bool zeros = false;                // or all codes are those of zero

  BNB_DEVICE_METHOD bool is_product() const { return !zeros && !only_infinities && !is_infinite(factor); }
  BNB_DEVICE_METHOD float of(float x) const {
    if (zeros) return 0.0f;
    if (only_infinities) return is_infinite(x) ? x : 0.0f;
    return is_infinite(factor) ? x / tensor / block : x * factor;
  }
};

struct MxRule {
  bnb_mx_scale rule;

  template <typename Format>
  BNB_DEVICE_METHOD BlockScale scale(Format, float absmax, uint8_t *code) const {
    BlockScale scale;
    if (!is_finite(absmax)) {
      *code = formats::e8m0::kNanCode;
      scale.zeros = true;
      return scale;
    }
    *code = formats::mx::scale_code<Format>(rule, absmax);
    scale.factor = formats::e8m0::reciprocal(*code);
    return scale;
  }
};

struct Nvfp4Rule {
  const void *tensor_scale;  // fp32 [1] or NULL

  template <typename Format>
  BNB_DEVICE_METHOD BlockScale scale(Format, float absmax, uint8_t *code) const {
    BlockScale scale;
    scale.tensor = tensor_scale ? load<float>(tensor_scale, 0) : 1.0f;
    if (scale.tensor == 0.0f || !is_finite(scale.tensor)) {
      *code = formats::nvfp4::kSmallestScale;
      scale.only_infinities = is_infinite(scale.tensor);
      scale.zeros = !scale.only_infinities;
      return scale;
    }
    if (!is_finite(absmax)) {
      *code = E4M3FN::kNanCode;
      scale.zeros = true;
      return scale;
    }
    *code = formats::nvfp4::scale_code(absmax, scale.tensor);
    scale.block = formats::fp8::decode<E4M3FN>(*code);
    scale.factor = 1.0f / scale.tensor / scale.block;
    return scale;
  }
};

template <typename Tag, typename Format, typename Rule>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads) quantize(BlockArgs args, Rule rule) {
  const int threads = int(args.blocksize) / kItems;  // that share a block: 1 or 2
  uint8_t *scales = static_cast<uint8_t *>(args.scale);
  for (int64_t tile = grid_index(); tile * kTile < args.n; tile += grid_count()) {
    const int64_t i = tile * kTile + int64_t(thread_index()) * kItems;
    float x[kItems];
    load_elements<Tag>(args, i, x);
    uint32_t largest = largest_of(x);
    const uint32_t neighbours = shuffle_xor(largest, 1);
    if (threads == 2 && neighbours > largest) largest = neighbours;
    if (i >= args.n) continue;  // blocks are whole: nobody has a part of his elements
    uint8_t code;
    const BlockScale scale = rule.scale(Format{}, formats::float_from_bits(largest), &code);
    if ((int(thread_index()) & (threads - 1)) == 0) scales[threads == 2 ? i / (2 * kItems) : i / kItems] = code;
    if (scale.is_product()) {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) x[j] *= scale.factor;
    } else {
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) x[j] = scale.of(x[j]);
    }
    if constexpr (int(Format::kBits) == 4) {
      uint32_t codes[kItems / 8] = {};
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) codes[j / 8] |= e2m1_code(x[j]) << (j % 8 * 4);
      store_words<kItems / 8>(args.out, i / 2, kItems / 2, codes);
    } else {
      uint32_t codes[kItems / 4];
      BNB_UNROLL
      for (int j = 0; j < kItems / 4; ++j) codes[j] = four_fp8<Format>(x + 4 * j);
      store_words<kItems / 4>(args.out, i, kItems, codes);
    }
  }
}

// The absmax of the tensor by what scale and element make of it together.
struct TensorScale {
  struct Args {};
  struct Shared {};
  BNB_DEVICE_METHOD TensorScale(const Args &, Shared &) {}
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax / formats::nvfp4::tensor_divisor(); }
};

template <typename Tag>
bnb_status write_tensor_scale(const QuantizeMxArgs &args, const Queue &queue) {
  const BlockArgs whole{args.a, args.n, args.n, nullptr, nullptr, args.tensor_scale};
  return measure_scales<Tag, TensorScale>(whole, {}, queue);
}

template <typename Tag>
bnb_status quantize(const QuantizeMxArgs &args, const Queue &queue) {
  if (args.tensor_scale) {
    const bnb_status status = args.n == 0 ? set_bytes(queue, args.tensor_scale, 0, sizeof(float))
                                          : write_tensor_scale<Tag>(args, queue);
    if (status != BNB_OK) return status;
  }
  const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.scale};
  const Grid grid = quantize_grid(queue, args.n);
  switch (args.quant_type) {
    case BNB_MXFP8_E4M3FN: return launch(quantize<Tag, E4M3FN, MxRule>, grid, queue, blocks, MxRule{args.rule});
    case BNB_MXFP8_E5M2: return launch(quantize<Tag, E5M2, MxRule>, grid, queue, blocks, MxRule{args.rule});
    case BNB_MXFP4: return launch(quantize<Tag, E2M1, MxRule>, grid, queue, blocks, MxRule{args.rule});
    default: return launch(quantize<Tag, E2M1, Nvfp4Rule>, grid, queue, blocks, Nvfp4Rule{args.tensor_scale});
  }
}

struct DecodeE2M1 {
  struct Args {
    const uint8_t *a;
  };
  struct Shared {
    float value[16];
  };

  const uint8_t *a;
  const Shared &shared;

  BNB_DEVICE_METHOD DecodeE2M1(const Args &args, Shared &to_fill) : a(args.a), shared(to_fill) {
    for (int code = int(thread_index()); code < 16; code += int(thread_count())) {
      to_fill.value[code] = formats::e2m1::decode(uint8_t(code));
    }
  }
  BNB_DEVICE_METHOD void read(int64_t i, int64_t count, float *x) const {
    static_assert(kDecodeItems == 8, "a word of codes");
    uint32_t codes;
    load_words<1>(a, i / 2, count / 2, &codes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems; ++j) x[j] = shared.value[codes >> (4 * j) & 15u];
  }
};

template <typename Tag, typename Decoder>
bnb_status dequantize(const DequantizeMxArgs &args, const Queue &queue) {
  return dequantize_blocks<Tag, Decoder>({args.a}, args.scales, args.blocksize, args.n, args.out, queue);
}

}  // namespace

bnb_status quantize_mx(const QuantizeMxArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) { status = quantize<decltype(tag)>(args, queue); });
  return status;
}

bnb_status dequantize_mx(const DequantizeMxArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    switch (args.quant_type) {
      case BNB_MXFP8_E4M3FN: status = dequantize<Tag, DecodeFp8<E4M3FN>>(args, queue); break;
      case BNB_MXFP8_E5M2: status = dequantize<Tag, DecodeFp8<E5M2>>(args, queue); break;
      default: status = dequantize<Tag, DecodeE2M1>(args, queue); break;
    }
  });
  return status;
}

}  // namespace bnb::gpu
