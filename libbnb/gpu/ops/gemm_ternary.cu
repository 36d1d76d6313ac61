// SPDX-License-Identifier: MIT
// Products of int8 activations with ternary weights, and the layer of BitNet around them.
#include "gpu/any_product.h"
#include "gpu/few_rows.h"
#include "gpu/matrix_product.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

using formats::ternary::TQ1;
using formats::ternary::TQ2;

// Which kernel it is must not depend on addresses where blocks have scales: few_rows.h rounds in its own way.
bool few_rows_fit(const Int8Product &p, const Queue &) {
  return p.m <= kMostFewRows && p.k % 16 == 0 && p.block.value % 16 == 0 && (p.block.value <= kMostBlock || p.blocks <= 1) &&
         fits_grid(p);
}
// Blocks with scales end with a load from shared memory.
template <typename Tile>
bool matrix_fits(const Int8Product &p, const Queue &queue) {
  return fits_matrix<Tile>(p, queue) && (p.blocks == 1 || p.block.value % Tile::kHalf == 0);
}
bool small_tiles_fit(const Int8Product &p, const Queue &queue) { return p.m <= SmallTile::kM && matrix_fits<SmallTile>(p, queue); }
bool any_fit(const Int8Product &, const Queue &) { return true; }

template <typename Weights>
constexpr Int8Candidate kCandidates[] = {
    {"few rows", few_rows_fit, launch_few_rows<Weights>},
    {"small tiles", small_tiles_fit, launch_matrix<Weights, SmallTile>},
    {"large tiles", matrix_fits<LargeTile<Weights>>, launch_matrix<Weights, LargeTile<Weights>>},
    {"any", any_fit, launch_any<Weights>},
};

Int8Product product_of(const GemmTernaryArgs &args) {
  Int8Product p{};
  p.a = args.a;
  p.b = args.b;
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.a_stride = args.a_stride;
  p.scale = args.scale;
  p.block = Divisor(args.block);
  p.blocks = args.blocks();
  p.rows_per_scale = args.rows_per_scale;
  p.dtype = args.dtype;
  p.row_stats = args.row_stats;
  p.same_row_stats = args.same_row_stats;
  p.bias_dtype = args.bias_dtype;
  p.bias = args.bias;
  p.out = args.out;
  p.out_stride = args.out_stride;
  return p;
}

bnb_status multiply(const GemmTernaryArgs &args, const Queue &queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  const Int8Product p = product_of(args);
  if (args.quant_type == BNB_TQ1_0) return multiply_by_first(kCandidates<TqWeights<TQ1>>, p, queue);
  if (args.quant_type == BNB_TQ2_0) return multiply_by_first(kCandidates<TqWeights<TQ2>>, p, queue);
  if (p.blocks == 1) return multiply_by_first(kCandidates<TwoBitWeights<false>>, p, queue);
  return multiply_by_first(kCandidates<TwoBitWeights<true>>, p, queue);
}

constexpr int kPackThreads = 256;

// to = the rows without gaps. Bytes: an element may lie at any address.
BNB_KERNEL void BNB_THREADS(kPackThreads)
    pack_rows(const uint8_t *from, int64_t rows, int64_t row_bytes, int64_t stride_bytes, uint8_t *to) {
  for (int64_t row = grid_index(); row < rows; row += grid_count()) {
    for (int64_t i = int64_t(thread_index()) * 16; i < row_bytes; i += kPackThreads * 16) {
      uint8_t bytes[16];
      load_bytes<16>(from + row * stride_bytes, i, row_bytes - i, bytes);
      store_bytes<16>(to + row * row_bytes, i, row_bytes - i, bytes);
    }
  }
}

}  // namespace

bnb_status gemm_ternary(const GemmTernaryArgs &args, Queue queue) { return multiply(args, queue); }

bnb_status linear_ternary(const LinearTernaryArgs &args, Queue queue) {
  GemmTernaryArgs product = args.product;
  if (product.m == 0 || product.n == 0) return BNB_OK;
  // One statistic for all rows is that of all of them as one, for which there must be no gaps between them.
  const int64_t n = product.m * product.k, bytes = float_size(args.dtype);
  const bool pack = args.per_tensor && args.a_stride != product.k && product.m > 1;
  const int64_t stats_bytes = ceil_div(product.m, 4) * 16, code_bytes = ceil_div(n, 16) * 16;
  const Workspace workspace(queue, size_t(stats_bytes + code_bytes + (pack ? n * bytes : 0)));
  if (workspace.status() != BNB_OK) return workspace.status();
  auto *stats = static_cast<uint8_t *>(workspace.data());
  auto *codes = reinterpret_cast<int8_t *>(stats + stats_bytes);
  uint8_t *const packed = stats + stats_bytes + code_bytes;

  bnb_status status = BNB_OK;
  if (pack) {
    status = launch(pack_rows, {blocks_for(queue, product.m, 8), kPackThreads}, queue, args.a, product.m, product.k * bytes,
                    args.a_stride * bytes, packed);
    if (status != BNB_OK) return status;
  }
  QuantizeInt8Args quantize{};
  quantize.dtype = args.dtype;
  quantize.a = pack ? packed : args.a;
  quantize.rows = args.per_tensor ? 1 : product.m;
  quantize.cols = args.per_tensor ? n : product.k;
  quantize.row_stride = args.per_tensor ? n : args.a_stride;
  quantize.out = codes;
  quantize.row_stats = stats;
  status = quantize_int8(quantize, queue);
  if (status != BNB_OK) return status;

  product.a = codes;
  product.a_stride = product.k;
  product.row_stats = stats;
  product.same_row_stats = args.per_tensor;
  return multiply(product, queue);
}

}  // namespace bnb::gpu
