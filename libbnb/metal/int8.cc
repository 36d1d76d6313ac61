// SPDX-License-Identifier: MIT
// The kernels of int8 products.
#include "metal/int8.h"

#include "metal/methods.h"

namespace bnb::metal {
namespace {

// A block with scales has to be made of what lanes read at once, and what a lane has of its sum must be exact in fp32.
constexpr int64_t kFewItem = 16, kFewBlock = int64_t(1) << 18;
bool one_scale(const Int8Product &p) { return p.args.blocks == 1; }

bool few_rows(const Int8Product &p, const Traits &) {
  const int64_t block = p.args.block.value;
  return p.args.m <= kernels::kMostFewRows && (one_scale(p) || (block % kFewItem == 0 && block <= kFewBlock));
}
Plan few_rows_plan(const Int8Product &p, const Traits &) {
  static constexpr const char *kNames[] = {"few_rows_1", "few_rows_2", "few_rows_4", "few_rows_8"};
  return {{p.file, kNames[few_variant(p.args.m)], DType::kOther, p.weights}, few_units(p.args.m, p.args.n), kernels::kFewThreads};
}

bool matrices(const Int8Product &p, const Traits &) {
  return one_scale(p) || p.args.block.value % kernels::kMatrixStep == 0;
}
Plan matrices_plan(const Int8Product &p, const Traits &) {
  const bool many = p.args.m > kernels::kMostFewTiles;
  const Kernel kernel{p.file, many ? "tiles_64" : "tiles_16", DType::kOther, p.weights};
  return tiled<kernels::kMatrixTileN>(kernel, p.args.m, p.args.n, many ? kernels::kManyTile : kernels::kFewTile, kernels::kMatrixThreads);
}

bool any_blocks(const Int8Product &, const Traits &) { return true; }
Plan any_plan(const Int8Product &p, const Traits &) {
  const Kernel kernel{p.file, "any", DType::kOther, p.weights};
  return tiled<kernels::kAnyTile>(kernel, p.args.m, p.args.n, kernels::kAnyTile, kernels::kAnyThreads);
}

constexpr Method<Int8Product> kMethods[] = {
    {"few rows", few_rows, few_rows_plan},
    {"matrices", matrices, matrices_plan},
    {"any blocks", any_blocks, any_plan},  // of two bits: all others are whole rows or have 256 weights
};

}  // namespace

uint32_t dtype_code(DType dtype) {
  switch (dtype) {
    case DType::kF32: return kernels::kBiasF32;
    case DType::kF16: return kernels::kBiasF16;
    case DType::kBF16: return kernels::kBiasBF16;
    default: return kernels::kSums;
  }
}

void multiply_int8(Commands &commands, Int8Product product) {
  kernels::Int8ProductArgs &args = product.args;
  if (args.m == 0 || args.n == 0) return;
  const Plan plan = plan_by(kMethods, product, commands.traits());
  args.tiles_m = plan.tiles_m;
  args.tiles = plan.units;
  const uint64_t out_bytes = args.out_dtype == kernels::kSums || args.out_dtype == kernels::kBiasF32 ? 4 : 2;
  args.aligned_a = commands.aligned(16, product.a) && args.a_stride % 16 == 0;
  args.aligned_scale = commands.aligned(4, product.scale, product.row_stats);
  args.aligned_list = commands.aligned(4, product.list);
  args.aligned_out = commands.aligned(out_bytes, product.out);
  commands.run(plan.kernel, {commands.groups_for(plan.units), plan.threads}, args, product.a, product.b, product.scale, product.row_stats,
               product.bias, product.x, product.list, product.count, product.out);
}

}  // namespace bnb::metal
