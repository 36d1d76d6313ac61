// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization and its nested use on the CPU.
#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

bnb_status quantize(const QuantizeBlockwiseArgs &args, const Kernels &kernels) {
  QuantizeBlockwiseKernelArgs kernel_args{args, known_code_search(args.code)};
  CodeSearch made;
  if (!kernel_args.search) {
    make_code_search(args.code, &made);
    kernel_args.search = &made;
  }
  parallel_for(block_count(args.n, args.blocksize), args.blocksize * (float_size(args.dtype) + 1), 1,
               [&](int64_t begin, int64_t end) { kernels.quantize_blockwise(kernel_args, begin, end); });
  return BNB_OK;
}

// The mean in float64, defined so that any number of threads gets the same bits: pieces of 1024 elements are summed in 16
// interleaved lanes, the lanes of a piece and then the pieces are added in order.
constexpr int64_t kPiece = 1024, kLanes = 16;

double sum_piece(const void *values, int64_t begin, int64_t end) {
  double lanes[kLanes] = {};
  for (int64_t i = begin; i < end; ++i) lanes[(i - begin) % kLanes] += double(load<float>(values, i));
  double sum = 0.0;
  for (double lane : lanes) sum += lane;
  return sum;
}

float mean_of(const void *values, int64_t n) {
  constexpr int64_t kAtOnce = 512;  // pieces whose sums wait on the stack
  double sum = 0.0, sums[kAtOnce];
  for (int64_t first = 0; first < n; first += kAtOnce * kPiece) {
    const int64_t left = ceil_div(n - first, kPiece), pieces = left < kAtOnce ? left : kAtOnce;
    parallel_for(pieces, kPiece * 4, 1, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t start = first + piece * kPiece;
        sums[piece] = sum_piece(values, start, n - start < kPiece ? n : start + kPiece);
      }
    });
    for (int64_t piece = 0; piece < pieces; ++piece) sum += sums[piece];
  }
  return n ? float(sum / double(n)) : 0.0f;
}

}  // namespace

bnb_status quantize_blockwise(const QuantizeBlockwiseArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  return kernels ? quantize(args, *kernels) : BNB_ERROR_INVALID_ARGUMENT;
}

bnb_status dequantize_blockwise(const DequantizeBlockwiseArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  parallel_for(args.n, float_size(args.dtype) + 1, piece_of(args.blocksize),
               [&](int64_t begin, int64_t end) { kernels->dequantize_blockwise(args, begin, end); });
  return BNB_OK;
}

bnb_status quantize_nested(const QuantizeNestedArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const float offset = mean_of(args.absmax, args.n);
  store<float>(args.offset, 0, offset);
  return quantize({DType::kF32, args.absmax, args.code, args.n, args.blocksize, offset, args.out, args.nested_absmax},
                  *kernels);
}

bnb_status dequantize_nested(const DequantizeNestedArgs &args, Queue) {
  parallel_for(args.n, 5, kElementsPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) store<float>(args.out, i, args.absmax.at(i));
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
