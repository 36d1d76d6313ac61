// SPDX-License-Identifier: MIT
// Ternary quantization on the CPU.
#include "core/scratch.h"
#include "core/status.h"
#include "cpu/ops/quantize.h"
#include "formats/ternary.h"

namespace bnb::cpu {
namespace {

using namespace formats::ternary;
static_assert(kLargeBlock <= kSumSection, "the kernel of means takes what is not large");
static_assert(kElementsPerPiece % kBlock == 0, "pieces are whole blocks");

// A range of elements begins where a byte does. TQ types have blocks that are multiples of more than that.
int64_t blocks_of_whole_bytes(int64_t blocksize) {
  if (blocksize % TwoBits::kCodes == 0) return 1;
  return blocksize % 2 == 0 ? TwoBits::kCodes / 2 : TwoBits::kCodes;
}

void quantize(const Kernels &kernels, const QuantizeTernaryArgs &args) {
  const BlockCut cut{args.n, args.blocksize, float_size(args.dtype), blocks_of_whole_bytes(args.blocksize)};
  const auto encode = [&](int64_t begin, int64_t end) { kernels.quantize_ternary(args, begin, end); };
  if (args.rule == BNB_ABSMEAN) {
    const AbsmeanArgs means{args.dtype, args.a, args.n, args.blocksize, args.scale, nullptr};
    quantize_in_blocks(
        cut, [&](int64_t block) { large_absmean(kernels, means, block); },
        [&](int64_t first, int64_t last) { kernels.absmean(means, first, last); }, encode);
  } else {
    const AbsmaxArgs maxima{args.dtype, args.a, args.n, args.blocksize, 0.0f, 1.0f, args.scale};
    quantize_in_blocks(
        cut, [&](int64_t block) { large_absmax(kernels, maxima, block); },
        [&](int64_t first, int64_t last) { kernels.absmax(maxima, first, last); }, encode);
  }
}

}  // namespace

bnb_status quantize_ternary(const QuantizeTernaryArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.scale || args.n == 0) {
    quantize(*kernels, args);
    return BNB_OK;
  }
  const int64_t blocks = block_count(args.n, args.blocksize);
  Scratch<float> scales(blocks);
  if (!scales.usable()) return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %lld scales", (long long)blocks);
  QuantizeTernaryArgs with_scales = args;
  with_scales.scale = scales.data();
  quantize(*kernels, with_scales);
  return BNB_OK;
}

bnb_status dequantize_ternary(const DequantizeTernaryArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.n, float_size(args.dtype), kElementsPerPiece,
               [&](int64_t begin, int64_t end) { kernels->dequantize_ternary(args, begin, end); });
  return BNB_OK;
}

}  // namespace bnb::cpu
