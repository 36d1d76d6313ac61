// SPDX-License-Identifier: MIT
// NF4 and FP4 quantization, written to be read. Element 2i lies in the high nibble of byte i, element 2i + 1 in the low one.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

uint8_t encode(bnb_quant_type quant_type, float x) {
  return quant_type == BNB_NF4 ? formats::nf4::encode(x) : formats::fp4::encode(x);
}
float decode(bnb_quant_type quant_type, uint8_t code) {
  return quant_type == BNB_NF4 ? formats::nf4::decode(code) : formats::fp4::decode(code);
}

}  // namespace

void quantize_4bit(const Quantize4bitArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const auto code = [&](int64_t i) {
      if (i >= args.n) return encode(args.quant_type, 0.0f);
      return encode(args.quant_type,
                    normalise(load_float<decltype(tag)>(args.a, i), load<float>(args.absmax, i / args.blocksize)));
    };
    for (int64_t i = begin; i < end; i += 2) args.out[i / 2] = uint8_t((code(i) << 4) | code(i + 1));
  });
}

void dequantize_4bit(const Dequantize4bitArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t byte = args.a[i / 2];
      const float value = decode(args.quant_type, i % 2 ? byte & 15 : byte >> 4);
      store_float<decltype(tag)>(args.out, i, value * args.absmax.at(i / args.blocksize));
    }
  });
}

}  // namespace bnb::reference
