// SPDX-License-Identifier: MIT
// FP8 quantization (E4M3FN, E5M2) with one fp32 scale per block: absmax / largest finite value. EXACT.
#include "gpu/decode_fp8.h"
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

using formats::fp8::E4M3FN;
using formats::fp8::E5M2;

template <typename Format>
struct EncodeFp8 {
  struct Args {};
  struct Shared {};

  BNB_DEVICE_METHOD EncodeFp8(const Args &, Shared &) {}
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax / Format::max_finite(); }
  static BNB_DEVICE_METHOD float of_infinity() { return Format::max_finite(); }
  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit, bool) const {
    uint32_t codes[kItems / 4];
    BNB_UNROLL
    for (int j = 0; j < kItems / 4; ++j) codes[j] = four_fp8<Format>(unit + 4 * j);
    store_words<kItems / 4>(out, i, count, codes);
  }
};

}  // namespace

bnb_status quantize_fp8(const QuantizeFp8Args &args, Queue queue) {
  bnb_status status = BNB_OK;
  const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.scale};
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    status = args.quant_type == BNB_FP8_E4M3FN ? quantize_blocks<Tag, EncodeFp8<E4M3FN>>(blocks, {}, queue)
                                               : quantize_blocks<Tag, EncodeFp8<E5M2>>(blocks, {}, queue);
  });
  return status;
}

bnb_status dequantize_fp8(const DequantizeFp8Args &args, Queue queue) {
  bnb_status status = BNB_OK;
  const PlainScales scales{args.scale};
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    status = args.quant_type == BNB_FP8_E4M3FN
                 ? dequantize_blocks<Tag, DecodeFp8<E4M3FN>>({args.a}, scales, args.blocksize, args.n, args.out, queue)
                 : dequantize_blocks<Tag, DecodeFp8<E5M2>>({args.a}, scales, args.blocksize, args.n, args.out, queue);
  });
  return status;
}

}  // namespace bnb::gpu
