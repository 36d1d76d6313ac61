// SPDX-License-Identifier: MIT
// Sparse products on Metal.
#include "core/status.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

constexpr int64_t kThreads = 256, kSquare = 64;                          // as in the kernels
constexpr int64_t kDigitBits = 8, kDigits = 1 << kDigitBits, kUnits = 8;  // of a threadgroup that sorts

uint64_t bytes_of(DType dtype) { return dtype == DType::kI8 ? 1 : dtype == DType::kF32 ? 4 : 2; }

// Parts of a workspace, each aligned to 16 bytes.
struct Parts {
  int64_t used = 0;
  int64_t take(int64_t bytes) {
    const int64_t part = used;
    used += ceil_div(bytes, 16) * 16;
    return part;
  }
};

struct Layout {
  int64_t rows[2], origins[2];  // uint32 [nnz]: in the end the first of each are sorted
  int64_t entries;              // [nnz]: column and factor
  int64_t starts;               // uint32 [m + 1]
  int64_t table;                // uint32 [units, kDigits]
  int64_t used;                 // a bit for each column of S
  int64_t turned, turned_stride;
  int64_t bytes;
};

// Enough units for all simdgroups, but not more: one threadgroup goes through all of them.
kernels::SortArgs sort_args(const Commands &commands, int64_t keys) {
  constexpr int64_t kStep = 64, kLeast = 256;
  const int64_t share = ceil_div(ceil_div(keys, commands.traits().groups * kUnits), kStep) * kStep;
  const int64_t of_unit = share < kLeast ? kLeast : share;
  return {keys, of_unit, ceil_div(keys, of_unit), 0, 0};
}

Layout lay_out(const GemmCooArgs &args, int64_t units) {
  constexpr int64_t kWord = sizeof(uint32_t), kStep = 16;
  Layout layout{};
  Parts parts;
  for (int i = 0; i < 2; ++i) {
    layout.rows[i] = parts.take(args.nnz * kWord);
    layout.origins[i] = parts.take(args.nnz * kWord);
  }
  layout.entries = parts.take(args.nnz * 2 * kWord);
  layout.starts = parts.take((args.m + 1) * kWord);
  layout.table = parts.take(units * kDigits * kWord);
  layout.turned_stride = ceil_div(args.n, kStep) * kStep;
  if (args.transposed_b && args.nnz > 0) {
    layout.used = parts.take(ceil_div(args.k, 32) * kWord);
    layout.turned = parts.take(args.k * layout.turned_stride * int64_t(bytes_of(args.b_dtype)));
  }
  layout.bytes = parts.used;
  return layout;
}

class Product {
 public:
  Product(const GemmCooArgs &args, Commands &commands, const Layout &layout, void *workspace)
      : args_(args), commands_(commands), layout_(layout), workspace_(workspace), coo_{} {
    coo_.m = args.m;
    coo_.n = args.n;
    coo_.k = args.k;
    coo_.values = args.nnz;
    coo_.b_stride = args.b_stride;
    coo_.out_stride = args.out_stride;
    coo_.turned_stride = layout.turned_stride;
    if (args.value_dtype != DType::kI8) coo_.value = bias_args(commands, args.value_dtype, args.values);
    coo_.out = bias_args(commands, args.dtype, args.out);
    coo_.has_scale = args.value_scale != nullptr;
    coo_.has_stats = args.col_stats != nullptr;
    coo_.accumulates = args.accumulate;
    coo_.marks = args.transposed_b;
    coo_.aligned_index = commands.aligned(4, args.rowidx, args.colidx);
    coo_.aligned_stats = commands.aligned(4, args.col_stats);
    coo_.aligned_b = commands.aligned(bytes_of(args.b_dtype), args.b);
    coo_.vectors_b = in_vectors(args.b, args.b_stride, args.b_dtype);
    coo_.vectors_out = in_vectors(args.out, args.out_stride, args.dtype);
  }

  // Entries, and where rows begin among them.
  void sort_values(kernels::SortArgs sort) {
    if (args_.nnz == 0) return clear(layout_.starts, args_.m + 1);
    const uint32_t none = args_.m < int64_t(UINT32_MAX) ? uint32_t(args_.m) : UINT32_MAX;  // the largest key
    int passes = 1;
    while (uint64_t(none) >> (passes * kDigitBits)) ++passes;
    if (args_.transposed_b) clear(layout_.used, ceil_div(args_.k, 32));
    run("coo_keys", args_.nnz, args_.rowidx, args_.colidx, at(layout_.rows[passes % 2]), at(layout_.used));
    const Grid over_units{commands_.groups_for(ceil_div(sort.units, kUnits)), int(kThreads)};
    const Place table = at(layout_.table);
    for (int pass = 0; pass < passes; ++pass) {
      const int from = (passes - pass) % 2;  // the last one goes to the first of each
      const Place keys = at(layout_.rows[from]);
      sort.shift = uint32_t(pass * kDigitBits);
      sort.first = pass == 0;
      commands_.run({"sort", "count_digits"}, over_units, sort, keys, table);
      commands_.run({"sort", "place_digits"}, {1, int(kDigits)}, sort, table);
      commands_.run({"sort", "move_by_digit"}, over_units, sort, keys, at(layout_.origins[from]), table, at(layout_.rows[1 - from]),
                    at(layout_.origins[1 - from]));
    }
    run("coo_starts", args_.m + 1, at(layout_.rows[0]), at(layout_.starts));
    run("coo_entries", args_.nnz, args_.colidx, args_.values, args_.value_scale, at(layout_.origins[0]), at(layout_.entries));
  }

  // Multiplies by the B that was given, or by one that was turned.
  void multiply() {
    Place b = commands_.place(args_.b);
    if (args_.transposed_b && args_.nnz > 0) {
      const uint64_t bytes = bytes_of(args_.b_dtype);
      const int64_t squares = ceil_div(args_.k, kSquare) * ceil_div(args_.n, kSquare);
      const Kernel turn{"gemm_coo", bytes == 1 ? "turn_dense_1" : bytes == 2 ? "turn_dense_2" : "turn_dense_4"};
      commands_.run(turn, {commands_.groups_for(squares), int(kThreads)}, coo_, args_.b, at(layout_.used), at(layout_.turned));
      b = at(layout_.turned);
      coo_.b_stride = layout_.turned_stride;
      coo_.aligned_b = coo_.vectors_b = 1;
    }
    const bool codes = args_.b_dtype == DType::kI8;
    const int64_t together = codes ? 8 : 16 / int64_t(bytes_of(args_.b_dtype));
    while (1 << coo_.row_shift < kThreads && together << coo_.row_shift < args_.n) ++coo_.row_shift;
    coo_.tiles = ceil_div(args_.n, together << coo_.row_shift);
    const int64_t most = ceil_div(args_.m, kThreads >> coo_.row_shift), fill = ceil_div(commands_.traits().groups, coo_.tiles);
    coo_.slices = most < fill ? most : fill;
    commands_.run({"gemm_coo", "multiply_coo", args_.b_dtype, codes ? "i8" : nullptr}, {coo_.tiles * coo_.slices, int(kThreads)}, coo_,
                  at(layout_.entries), at(layout_.starts), b, args_.col_stats, args_.out);
  }

 private:
  Place at(int64_t part) const { return {workspace_, uint64_t(part)}; }
  bool in_vectors(const void *data, int64_t stride, DType dtype) const {
    return commands_.aligned(16, data) && uint64_t(stride) * bytes_of(dtype) % 16 == 0;
  }
  void clear(int64_t part, int64_t words) {
    commands_.run({"blocks", "clear_words"}, {commands_.groups_for(ceil_div(words, kQuantizeThreads)), kQuantizeThreads}, words, at(part));
  }
  // A kernel that takes one item a thread at a time.
  template <typename... Pointers>
  void run(const char *kernel, int64_t items, const Pointers &...pointers) {
    commands_.run({"gemm_coo", kernel}, {commands_.groups_for(ceil_div(items, kThreads)), int(kThreads)}, coo_, pointers...);
  }

  const GemmCooArgs &args_;
  Commands &commands_;
  const Layout &layout_;
  void *workspace_;
  kernels::CooArgs coo_;
};

}  // namespace

bnb_status gemm_coo(const GemmCooArgs &args, Queue queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  if (args.nnz > int64_t(UINT32_MAX)) {
    return fail(BNB_ERROR_UNSUPPORTED, "%lld values, on a GPU at most %lld", (long long)args.nnz, (long long)UINT32_MAX);
  }
  Commands commands(queue);
  const kernels::SortArgs sort = sort_args(commands, args.nnz);
  const Layout layout = lay_out(args, sort.units);
  const Workspace workspace(queue, size_t(layout.bytes));
  commands.need(workspace.status());
  Product product(args, commands, layout, workspace.buffer());
  product.sort_values(sort);
  product.multiply();
  return commands.commit();
}

}  // namespace bnb::metal
