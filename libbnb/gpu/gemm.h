// SPDX-License-Identifier: MIT
// Products with quantized weights: what their kernels get, and the list that one is chosen from. SUM (bnb.h).
#ifndef BNB_GPU_GEMM_H_
#define BNB_GPU_GEMM_H_

#include "gpu/launch.h"
#include "gpu/scales.h"

namespace bnb::gpu {

// Arguments of a launch.
struct Gemm : GemmArgs {
  Scales reader;
  Divisor flat_blocks;     // the block of a weight, counted from the first of all
  SmallDivisor row_blocks; // the block of column k of a row, where rows are whole blocks

  explicit Gemm(const GemmArgs &args)
      : GemmArgs(args), reader(args.scales), flat_blocks(args.blocksize),
        row_blocks(args.blocksize < kMostColumns ? args.blocksize : kMostColumns) {}

  static constexpr int64_t kMostColumns = INT32_MAX - (1 << 16);  // for kernels that count columns in 32 bits
};

// Rows are whole blocks of a multiple of `codes`.
inline bool whole_blocks(const GemmArgs &args, int64_t codes) {
  return args.k > 0 && args.k < Gemm::kMostColumns && args.k % args.blocksize == 0 && args.blocksize % codes == 0;
}

// A number as an argument that templates can take.
template <int kNumber>
struct Constant {
  static constexpr int kValue = kNumber;
};

inline bool has_e4m3_codes(const GemmArgs &args) {
  return args.quant_type == BNB_FP8_E4M3FN || args.quant_type == BNB_MXFP8_E4M3FN;
}

BNB_DEVICE float bias_of(const Gemm &args, int64_t column) {
  if (!args.bias) return 0.0f;
  switch (args.bias_dtype) {
    case DType::kF32: return load_float<F32>(args.bias, column);
    case DType::kF16: return load_float<F16>(args.bias, column);
    default: return load_float<BF16>(args.bias, column);
  }
}

// A way to multiply. The first of an operation's list that fits is taken; NULL: another library has it.
struct GemmMethod {
  const char *name;
  bool (*fits)(const GemmArgs &, const Queue &);
  bnb_status (*multiply)(const GemmArgs &, const Queue &);
};

template <int kMethods>
bnb_status multiply_by(const GemmMethod (&methods)[kMethods], const GemmArgs &args, const Queue &queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  for (const GemmMethod &method : methods) {
    if (method.fits && method.fits(args, queue)) return method.multiply(args, queue);
  }
  return fail(BNB_ERROR_INTERNAL, "no kernel for this product");
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_GEMM_H_
