// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: the nearest of 256 values, and back. EXACT.
#include "gpu/dequantize_blocks.h"
#include "gpu/encode_nearest.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

struct DecodeByte {
  struct Args {
    const uint8_t *a;
    const void *code;  // fp32 [256]
  };
  struct Shared {
    float value[256];
  };

  const uint8_t *a;
  const Shared &shared;

  BNB_DEVICE_METHOD DecodeByte(const Args &args, Shared &to_fill) : a(args.a), shared(to_fill) {
    for (uint32_t i = thread_index(); i < 256; i += thread_count()) to_fill.value[i] = load<float>(args.code, i);
  }
  BNB_DEVICE_METHOD void read(int64_t i, int64_t count, float *x) const {
    uint32_t codes[kDecodeItems / 4];
    load_words<kDecodeItems / 4>(a, i, count, codes);
    BNB_UNROLL
    for (int j = 0; j < kDecodeItems; ++j) x[j] = shared.value[codes[j / 4] >> (j % 4 * 8) & 0xFFu];
  }
};

}  // namespace

bnb_status quantize_blockwise(const QuantizeBlockwiseArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.absmax};
    status = quantize_blocks<decltype(tag), EncodeNearest>(blocks, {args.code}, queue);
  });
  return status;
}

bnb_status dequantize_blockwise(const DequantizeBlockwiseArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    status = dequantize_blocks<decltype(tag), DecodeByte>({args.a, args.code}, args.absmax, args.blocksize, args.n, args.out, queue);
  });
  return status;
}

}  // namespace bnb::gpu
