// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization and its nested use on the CPU.
#include "core/sums.h"
#include "cpu/float_environment.h"
#include "cpu/ops/quantize.h"
#include "cpu/ops/sum.h"

namespace bnb::cpu {
namespace {

bnb_status quantize(const QuantizeBlockwiseArgs &args, const Kernels &kernels) {
  const DefaultFloatEnvironment environment;
  QuantizeBlockwiseKernelArgs kernel_args{args, known_code_search(args.code)};
  CodeSearch made;
  if (!kernel_args.search) {
    make_code_search(args.code, &made);
    kernel_args.search = &made;
  }
  quantize_in_blocks(kernels, {args.dtype, args.a, args.n, args.blocksize, args.subtract, 1.0f, args.absmax},
                     [&](int64_t begin, int64_t end) { kernels.quantize_blockwise(kernel_args, begin, end); });
  return BNB_OK;
}

float mean_of_values(const void *values, int64_t n) {
  const DefaultFloatEnvironment environment;
  const double sum = ordered_sum(n, sizeof(float), [&](int64_t i) { return double(load<float>(values, i)); });
  return n ? bnb::mean_of(sum, n) : 0.0f;
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
  const float offset = mean_of_values(args.absmax, args.n);
  store<float>(args.offset, 0, offset);
  return quantize({DType::kF32, args.absmax, args.code, args.n, args.blocksize, offset, args.out, args.nested_absmax},
                  *kernels);
}

bnb_status dequantize_nested(const DequantizeNestedArgs &args, Queue) {
  if (!active_kernels()) return BNB_ERROR_INVALID_ARGUMENT;  // it has no kernel, but a wrong BNB_CPU_ISA stops everything
  parallel_for(args.n, 5, kElementsPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) store<float>(args.out, i, args.absmax.at(i));
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
