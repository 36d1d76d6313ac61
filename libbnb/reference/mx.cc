// SPDX-License-Identifier: MIT
// MX and NVFP4 quantization, written to be read. Element 2i of 4-bit codes lies in the low nibble of byte i.
#include "formats/mx.h"

#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

using formats::E2M1;
using formats::fp8::E4M3FN;
using formats::fp8::E5M2;

uint8_t encode(E2M1, float x) { return formats::e2m1::encode(x); }
float decode(E2M1, uint8_t code) { return formats::e2m1::decode(code); }
template <typename Format>
uint8_t encode(Format, float x) {
  return formats::fp8::encode<Format>(x);
}
template <typename Format>
float decode(Format, uint8_t code) {
  return formats::fp8::decode<Format>(code);
}

template <typename Body>
void with_element(bnb_quant_type quant_type, Body &&body) {
  switch (quant_type) {
    case BNB_MXFP8_E4M3FN: return body(E4M3FN{});
    case BNB_MXFP8_E5M2: return body(E5M2{});
    default: return body(E2M1{});
  }
}

// How the elements of a block are turned into codes.
struct BlockScale {
  float factor;          // x is multiplied by this,
  float tensor, block;   // or divided by these two where it is infinite;
  bool only_infinities;  // elements are infinite or zero,
  bool zeros;            // or all codes are those of zero
};

float scaled(const BlockScale &scale, float x) {
  if (scale.zeros) return 0.0f;
  if (scale.only_infinities) return std::isinf(x) ? x : 0.0f;
  return std::isinf(scale.factor) ? x / scale.tensor / scale.block : x * scale.factor;
}

template <typename Format>
BlockScale mx_scale(Format, bnb_mx_scale rule, float absmax, uint8_t *code) {
  if (!std::isfinite(absmax)) {
    *code = formats::e8m0::kNanCode;
    return {0.0f, 0.0f, 0.0f, false, true};
  }
  *code = formats::mx::scale_code<Format>(rule, absmax);
  return {formats::e8m0::reciprocal(*code), 0.0f, 0.0f, false, false};
}

// tensor: the scale of the tensor, NULL if there is none.
BlockScale nvfp4_scale(const void *tensor_scale, float absmax, uint8_t *code) {
  const float tensor = tensor_scale ? load<float>(tensor_scale, 0) : 1.0f;
  if (tensor == 0.0f || !std::isfinite(tensor)) {
    *code = formats::nvfp4::kSmallestScale;
    return {0.0f, 0.0f, 0.0f, std::isinf(tensor), !std::isinf(tensor)};
  }
  if (!std::isfinite(absmax)) {
    *code = E4M3FN::kNanCode;
    return {0.0f, 0.0f, 0.0f, false, true};
  }
  *code = formats::nvfp4::scale_code(absmax, tensor);
  const float block = decode(E4M3FN{}, *code);
  return {1.0f / tensor / block, tensor, block, false, false};
}

void put_code(const QuantizeMxArgs &args, int64_t i, uint8_t code) {
  if (args.quant_type == BNB_MXFP8_E4M3FN || args.quant_type == BNB_MXFP8_E5M2) {
    args.out[i] = code;
  } else {
    args.out[i / 2] = uint8_t(i % 2 ? args.out[i / 2] | code << 4 : code);
  }
}

uint8_t code_at(const DequantizeMxArgs &args, int64_t i) {
  if (args.quant_type == BNB_MXFP8_E4M3FN || args.quant_type == BNB_MXFP8_E5M2) return args.a[i];
  return uint8_t(i % 2 ? args.a[i / 2] >> 4 : args.a[i / 2] & 15);
}

}  // namespace

void quantize_mx(const QuantizeMxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    with_element(args.quant_type, [&](auto format) {
      const auto x = [&](int64_t i) { return load_float<decltype(tag)>(args.a, i); };
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * args.blocksize, last = first + args.blocksize;
        const float absmax = absmax_of(first, last, x);
        const BlockScale scale = args.quant_type == BNB_NVFP4
                                     ? nvfp4_scale(args.tensor_scale, absmax, args.scale + block)
                                     : mx_scale(format, args.rule, absmax, args.scale + block);
        for (int64_t i = first; i < last; ++i) put_code(args, i, encode(format, scaled(scale, x(i))));
      }
    });
  });
}

void dequantize_mx(const DequantizeMxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    with_element(args.quant_type, [&](auto format) {
      for (int64_t i = begin * args.blocksize; i < end * args.blocksize; ++i) {
        const float value = decode(format, code_at(args, i));
        store_float<decltype(tag)>(args.out, i, value * args.scales.at(i / args.blocksize));
      }
    });
  });
}

}  // namespace bnb::reference
