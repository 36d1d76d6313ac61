// SPDX-License-Identifier: MIT
// int8 products, and LLM.int8() around them: quantization, a list of the outlier columns made on the device, the product.
#include "core/linear_int8.h"
#include "gpu/any_product.h"
#include "gpu/few_rows.h"
#include "gpu/matrix_product.h"
#include "gpu/ops.h"

namespace bnb::gpu {
namespace {

bool few_rows_fit(const Int8Product &p, const Queue &) { return p.m <= kMostFewRows && fits_grid(p); }
template <typename Tile>
bool matrix_fits(const Int8Product &p, const Queue &queue) {
  return fits_matrix<Tile>(p, queue) && aligned16(p.b) && p.b_stride % 16 == 0;
}
using Large = LargeTile<Int8Weights>;
bool small_tiles_fit(const Int8Product &p, const Queue &queue) { return p.m <= SmallTile::kM && matrix_fits<SmallTile>(p, queue); }
bool any_fit(const Int8Product &, const Queue &) { return true; }

constexpr Int8Candidate kCandidates[] = {
    {"few rows", few_rows_fit, launch_few_rows<Int8Weights>},
    {"small tiles", small_tiles_fit, launch_matrix<Int8Weights, SmallTile>},
    {"large tiles", matrix_fits<Large>, launch_matrix<Int8Weights, Large>},
    {"any", any_fit, launch_any<Int8Weights>},
};

constexpr int kListThreads = 1024, kMarks = 16;  // of a thread at a time

// list = the columns that are marked, ascending; count[0] = how many. One block: there are at most 131071 columns.
BNB_KERNEL void BNB_THREADS(kListThreads) list_columns(const uint8_t *marks, int64_t columns, int64_t *list, int64_t *count) {
  BNB_SHARED int sums[kListThreads / 32];
  int before = 0;  // in the list already
  for (int64_t first = 0; first < columns; first += kListThreads * kMarks) {
    const int64_t column = first + int64_t(thread_index()) * kMarks;
    uint8_t mine[kMarks];
    load_bytes<kMarks>(marks, column, columns - column, mine);
    int found = 0;
    BNB_UNROLL
    for (int i = 0; i < kMarks; ++i) found += mine[i] != 0;

    int place = found;  // of the warp's lanes up to this one
    for (int delta = 1; delta < kWarp; delta *= 2) {
      const int other = shuffle(place, int(lane_index()) - delta < 0 ? 0 : int(lane_index()) - delta);
      if (int(lane_index()) >= delta) place += other;
    }
    if (int(lane_index()) == kWarp - 1) sums[warp_index()] = place;
    barrier();
    int total = 0;
    for (int w = 0; w < kListThreads / kWarp; ++w) {
      if (w < int(warp_index())) place += sums[w];
      total += sums[w];
    }
    barrier();  // before the next ones are written

    place += before - found;
    BNB_UNROLL
    for (int i = 0; i < kMarks; ++i) {
      if (mine[i]) list[place++] = column + i;
    }
    before += total;
  }
  if (thread_index() == 0) *count = before;
}

Int8Product product_of(const GemmInt8Args &args) {
  Int8Product p{};
  p.a = args.a;
  p.b = reinterpret_cast<const uint8_t *>(args.b);
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.a_stride = args.a_stride;
  p.b_stride = args.b_stride;
  p.dtype = args.dtype;
  p.row_stats = args.row_stats;
  p.col_stats = args.col_stats;
  p.bias_dtype = args.bias_dtype;
  p.bias = args.bias;
  p.x_dtype = args.x_dtype;
  p.x = args.x;
  p.x_stride = args.x_stride;
  p.outliers = args.outliers;
  p.outlier_cols = args.outlier_cols;
  p.out = args.out;
  p.out_stride = args.out_stride;
  return p;
}

}  // namespace

bnb_status gemm_int8(const GemmInt8Args &args, Queue queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  return multiply_by_first(kCandidates, product_of(args), queue);
}

bnb_status linear_int8(const LinearInt8Args &args, Queue queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  // The list and its length, row_stats, marks of columns, codes: in this order, so that all of them are aligned.
  const bool outliers = args.threshold > 0.0f;
  const int64_t listed = outliers ? args.k : 0;
  const int64_t list_bytes = (listed + 1) * int64_t(sizeof(int64_t));
  const int64_t stats_bytes = ceil_div(args.m, 4) * 16, mark_bytes = ceil_div(listed, 16) * 16, list_end = ceil_div(list_bytes, 16) * 16;
  const Workspace workspace(queue, size_t(list_end + stats_bytes + mark_bytes + args.m * args.k));
  if (workspace.status() != BNB_OK) return workspace.status();
  auto *count = static_cast<int64_t *>(workspace.data());
  auto *stats = static_cast<uint8_t *>(workspace.data()) + list_end;
  uint8_t *const marks = stats + stats_bytes;
  auto *codes = reinterpret_cast<int8_t *>(marks + mark_bytes);

  bnb_status status = quantize_int8(rows_of_layer(args, codes, stats, marks), queue);
  if (status == BNB_OK && outliers) {
    status = launch(list_columns, {1, kListThreads}, queue, marks, args.k, count + 1, count);
  }
  if (status != BNB_OK) return status;

  Int8Product p = product_of(product_of_layer(args, codes, stats, count + 1));
  p.outlier_count = outliers ? count : nullptr;
  return multiply_by_first(kCandidates, p, queue);
}

}  // namespace bnb::gpu
