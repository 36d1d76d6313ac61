// SPDX-License-Identifier: MIT
// Products with quantized weights on Metal.
#include "metal/methods.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

// How kernels know a format.
struct WeightFormat {
  bnb_quant_type type;
  uint32_t weights;
  int bits;
  bool low_first;
};
constexpr WeightFormat kFormats[] = {
    {BNB_NF4, kernels::kWeightsNf4, 4, false},
    {BNB_FP4, kernels::kWeightsFp4, 4, false},
    {BNB_MXFP4, kernels::kWeightsE2M1, 4, true},
    {BNB_NVFP4, kernels::kWeightsE2M1, 4, true},
    {BNB_FP8_E4M3FN, kernels::kWeightsE4M3FN, 8, false},
    {BNB_MXFP8_E4M3FN, kernels::kWeightsE4M3FN, 8, false},
    {BNB_FP8_E5M2, kernels::kWeightsE5M2, 8, false},
    {BNB_MXFP8_E5M2, kernels::kWeightsE5M2, 8, false},
};
const WeightFormat &format_of(const GemmArgs &args) {
  const WeightFormat *format = kFormats;
  while (format->type != args.quant_type) ++format;  // api/ lets no other pass
  return *format;
}

// Rows are whole vectors of 16 bytes of codes, and blocks do not begin inside of what is decoded with one scale.
bool whole_vectors(const GemmArgs &args) {
  return args.k % (128 / format_of(args).bits) == 0 && args.blocksize % kernels::kUnit == 0;
}

// Up to here an fma for each row of activations, and what they take to load, is less than matrices need, of which the smallest tile has
// 16 rows (docs/metal.md).
bool few_rows(const GemmArgs &args, const Traits &) { return args.m <= kernels::kMostFewRows && whole_vectors(args); }
Plan few_rows_plan(const GemmArgs &args, const Traits &) {
  static constexpr const char *kNames[2][4] = {{"few_nibbles_1", "few_nibbles_2", "few_nibbles_4", "few_nibbles_8"},
                                               {"few_bytes_1", "few_bytes_2", "few_bytes_4", "few_bytes_8"}};
  const char *name = kNames[format_of(args).bits == 8][few_variant(args.m)];
  return {{"gemm_few", name, args.dtype}, few_units(args.m, args.n), kernels::kFewThreads};
}

// Rows of a tile. Two or three small ones multiply less than a large one that is half empty, and decode twice or thrice.
bool many_rows(const GemmArgs &args) { return args.m > kernels::kMostFewTiles; }
int tile_rows(const GemmArgs &args) { return many_rows(args) ? kernels::kManyTile : kernels::kFewTile; }

// Matrices of floats; of bfloats where the GPU has instructions for such numbers, which older ones have not, whatever their language.
bool matrix(const GemmArgs &args, const Traits &traits) {
  return whole_vectors(args) && traits.max_threadgroup >= kernels::kMostMatrixBytes;
}
bool bfloat_matrix(const GemmArgs &args, const Traits &traits) {
  return args.dtype == DType::kBF16 && traits.language >= 310 && traits.family >= 9 && matrix(args, traits);
}
Plan matrix_plan_of(const GemmArgs &args, const char *suffix) {
  static constexpr const char *kNames[2][2] = {{"matrix_nibbles_16", "matrix_nibbles_64"}, {"matrix_bytes_16", "matrix_bytes_64"}};
  const bool many = many_rows(args);
  const Kernel kernel{"gemm_matrix", kNames[format_of(args).bits == 8][many], args.dtype, suffix};
  return tiled<kernels::kMatrixTileN>(kernel, args.m, args.n, tile_rows(args), kernels::kMatrixThreads);
}
Plan matrix_plan(const GemmArgs &args, const Traits &) { return matrix_plan_of(args, nullptr); }
Plan bfloat_matrix_plan(const GemmArgs &args, const Traits &) { return matrix_plan_of(args, "bfloat"); }

bool any_shape(const GemmArgs &, const Traits &) { return true; }
Plan any_plan(const GemmArgs &args, const Traits &) {
  const bool many = many_rows(args);
  const Kernel kernel{"gemm", many ? "any_64" : "any_16", args.dtype};
  return tiled<kernels::kAnyTile>(kernel, args.m, args.n, tile_rows(args), kernels::kAnyThreads);
}

constexpr Method<GemmArgs> kMethods[] = {
    {"few rows", few_rows, few_rows_plan},                        // reads every code once, no barriers
    {"matrices of bfloat", bfloat_matrix, bfloat_matrix_plan},    // half the threadgroup memory of the next one
    {"matrices of float", matrix, matrix_plan},
    {"any shape", any_shape, any_plan},
};

bnb_status multiply(const GemmArgs &args, const Queue &queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  Commands commands(queue);
  const int64_t weights = args.n * args.k;
  const Plan plan = plan_by(kMethods, args, commands.traits());
  const BoundScales scales = bind_scales(commands, args.scales, block_count(weights, args.blocksize));
  const WeightFormat &format = format_of(args);
  kernels::GemmArgs kernel_args{};
  kernel_args.m = args.m;
  kernel_args.n = args.n;
  kernel_args.k = args.k;
  kernel_args.a_stride = args.a_stride;
  kernel_args.out_stride = args.out_stride;
  kernel_args.tiles_m = plan.tiles_m;
  kernel_args.tiles = plan.units;
  kernel_args.blocksize = kernels::divisor(args.blocksize, weights);
  kernel_args.scales = scales.args;
  kernel_args.bias = bias_args(commands, args.bias_dtype, args.bias);
  kernel_args.weights = format.weights;
  kernel_args.low_first = format.low_first;
  const uint64_t bytes = args.dtype == DType::kF32 ? 4 : 2;
  kernel_args.aligned_a = commands.aligned(bytes, args.a);
  kernel_args.aligned_out = commands.aligned(bytes, args.out);
  kernel_args.vectors_a = commands.aligned(16, args.a) && (args.m == 1 || uint64_t(args.a_stride) * bytes % 16 == 0);
  kernel_args.vectors_b = commands.aligned(16, args.b);
  const Grid grid{commands.groups_for(plan.units), plan.threads};
  commands.run(plan.kernel, grid, kernel_args, args.a, args.b, args.bias, args.out, scales.scales, scales.nested_code, scales.nested_absmax,
               scales.single);
  return commands.commit();
}

}  // namespace

bnb_status gemm_4bit(const GemmArgs &args, Queue queue) { return multiply(args, queue); }
bnb_status gemm_fp8(const GemmArgs &args, Queue queue) { return multiply(args, queue); }
bnb_status gemm_mx(const GemmArgs &args, Queue queue) { return multiply(args, queue); }

}  // namespace bnb::metal
