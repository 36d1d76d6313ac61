// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: the nearest of 256 values, by halving the fp32 midpoints between them. EXACT.
#include "gpu/ops.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

constexpr int kCodes = 256;
constexpr int kDequantizeItems = 16, kDequantizeThreads = 256;

struct NearestCode {
  struct Args {
    const void *code;  // fp32 [256], ascending
  };
  struct Shared {
    float midpoints[kCodes];  // the last one is above everything
  };

  const Shared &shared;

  BNB_DEVICE_METHOD NearestCode(const Args &args, Shared &to_fill) : shared(to_fill) {
    for (uint32_t i = thread_index(); i < kCodes; i += thread_count()) {
      const float here = load<float>(args.code, i);
      to_fill.midpoints[i] =
          i + 1 < kCodes ? (here + load<float>(args.code, i + 1)) * 0.5f : formats::float_from_bits(0x7F800000u);
    }
  }
  BNB_DEVICE_METHOD float scale_of(float absmax) const { return absmax; }
  static BNB_DEVICE_METHOD float of_infinity() { return 1.0f; }

  // The number of midpoints strictly below; NaN gives 0.
  BNB_DEVICE_METHOD uint8_t encode(float unit) const {
    uint32_t code = 0;
    BNB_UNROLL
    for (uint32_t step = kCodes / 2; step > 0; step /= 2) code += unit > shared.midpoints[code + step - 1] ? step : 0;
    return uint8_t(code);
  }
  BNB_DEVICE_METHOD void write(uint8_t *out, int64_t i, int64_t count, const float *unit) const {
    uint8_t codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = encode(unit[j]);
    store_bytes<kItems>(out, i, count, codes);
  }
};

template <typename Tag>
BNB_KERNEL void BNB_THREADS(kDequantizeThreads) dequantize(DequantizeBlockwiseArgs args, Divisor blocksize) {
  BNB_SHARED float code[kCodes];
  for (uint32_t i = thread_index(); i < kCodes; i += thread_count()) code[i] = load<float>(args.code, i);
  barrier();
  constexpr int64_t kStep = kDequantizeItems * kDequantizeThreads;
  for (int64_t tile = grid_index(); tile * kStep < args.n; tile += grid_count()) {
    const int64_t i = tile * kStep + int64_t(thread_index()) * kDequantizeItems;
    if (i >= args.n) continue;
    uint8_t codes[kDequantizeItems];
    load_bytes<kDequantizeItems>(args.a, i, args.n - i, codes);
    float x[kDequantizeItems];
    int64_t block = blocksize.of(i), end = (block + 1) * blocksize.value;
    float absmax = args.absmax.at(block);
    BNB_UNROLL
    for (int j = 0; j < kDequantizeItems; ++j) {
      if (i + j == end && i + j < args.n) {
        absmax = args.absmax.at(++block);
        end += blocksize.value;
      }
      x[j] = code[codes[j]] * absmax;
    }
    store_floats<Tag, kDequantizeItems>(args.out, i, args.n - i, x);
  }
}

}  // namespace

bnb_status quantize_blockwise(const QuantizeBlockwiseArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    const BlockArgs blocks{args.a, args.n, args.blocksize, nullptr, args.out, args.absmax};
    status = quantize_blocks<decltype(tag), NearestCode>(blocks, {args.code}, queue);
  });
  return status;
}

bnb_status dequantize_blockwise(const DequantizeBlockwiseArgs &args, Queue queue) {
  bnb_status status = BNB_OK;
  with_float(args.dtype, [&](auto tag) {
    const int64_t tiles = ceil_div(args.n, kDequantizeItems * kDequantizeThreads);
    status = launch(dequantize<decltype(tag)>, {blocks_for(queue, tiles, 8), kDequantizeThreads}, queue, args,
                    Divisor(args.blocksize));
  });
  return status;
}

}  // namespace bnb::gpu
