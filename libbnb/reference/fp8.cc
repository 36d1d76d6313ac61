// SPDX-License-Identifier: MIT
// FP8 quantization with one scale per block, written to be read.
#include "formats/fp8.h"
#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

template <typename Body>
void with_format(bnb_quant_type quant_type, Body &&body) {
  if (quant_type == BNB_FP8_E4M3FN) {
    body(formats::fp8::E4M3FN{});
  } else {
    body(formats::fp8::E5M2{});
  }
}

// x / scale; the infinite elements of an infinite block become the largest value.
template <typename Format>
float scaled(float x, float scale) {
  const float unit = normalise(x, scale);
  return std::isinf(scale) ? unit * Format::max_finite() : unit;
}

}  // namespace

void quantize_fp8(const QuantizeFp8Args &args, int64_t begin, int64_t end) {
  with_format(args.quant_type, [&](auto format) {
    using Format = decltype(format);
    with_float(args.dtype, [&](auto tag) {
      for (int64_t i = begin; i < end; ++i) {
        const float x = load_float<decltype(tag)>(args.a, i);
        const float scale = load<float>(args.scale, i / args.blocksize);
        args.out[i] = formats::fp8::encode<Format>(scaled<Format>(x, scale));
      }
    });
  });
}

void dequantize_fp8(const DequantizeFp8Args &args, int64_t begin, int64_t end) {
  with_format(args.quant_type, [&](auto format) {
    with_float(args.dtype, [&](auto tag) {
      for (int64_t i = begin; i < end; ++i) {
        const float value = formats::fp8::decode<decltype(format)>(args.a[i]);
        store_float<decltype(tag)>(args.out, i, value * load<float>(args.scale, i / args.blocksize));
      }
    });
  });
}

}  // namespace bnb::reference
