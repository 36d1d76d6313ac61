// SPDX-License-Identifier: MIT
// out = S @ B for a sparse S in coordinate form: values are sorted by rows, then each thread adds up rows of B times the values of a
// row of S for some columns, by fmaf. SUM; the sort is stable, so that values of a row are added in the order in which they came.
//
// A B that stands on its side is turned first, as far as S needs it. Where an index lies outside of its matrix, the CPU returns an
// error; here nobody can wait to be told, and the value counts for nothing.
#include "core/status.h"
#include "gpu/ops.h"
#include "gpu/sort_rows.h"
#include "gpu/vectors.h"

namespace bnb::gpu {
namespace {

constexpr int kProductThreads = 256;

struct alignas(8) Entry {
  int32_t column;
  float factor;
};

// Memory of the device during a product.
struct Space {
  uint32_t *rows[2];    // [nnz] while sorting; in the end rows[0] is sorted
  uint32_t *places[2];  // [nnz]: where those values came from
  Entry *entries;       // [nnz], sorted
  uint32_t *starts;     // [m + 1]: where rows begin among the entries
  uint32_t *used;       // a bit for each column of S, 1 if it has a value; NULL: nobody wants to know
  void *turned;         // B[k, n] in its dtype, rows turned_stride apart
  int64_t turned_stride;
};

BNB_DEVICE float load_number(DType dtype, const void *array, int64_t i) {
  switch (dtype) {
    case DType::kI8: return float(load<int8_t>(array, i));
    case DType::kF32: return load<float>(array, i);
    case DType::kF16: return load_float<F16>(array, i);
    default: return load_float<BF16>(array, i);
  }
}

// The keys of the sort: rows, and for values outside of S the number of rows. kFirst: as they came; kLast: to entries.
template <bool kFirst, bool kLast>
struct RowKeys {
  GemmCooArgs args;
  Space space;
  uint32_t none;
  int from;  // which of rows and places; `to` is the other, or entries

  BNB_DEVICE_METHOD uint32_t key(int64_t i) const {
    if (!kFirst) return space.rows[from][i];
    const int32_t row = load<int32_t>(args.rowidx, i), column = load<int32_t>(args.colidx, i);
    const bool inside = row >= 0 && row < args.m && column >= 0 && column < args.k;
    if (inside && space.used) {
      const uint32_t bit = uint32_t(1) << column % 32;
      if (!(atomic_load(space.used + column / 32) & bit)) atomic_or(space.used + column / 32, bit);
    }
    return inside ? uint32_t(row) : none;
  }
  BNB_DEVICE_METHOD void move(int64_t i, uint32_t key, uint32_t to) const {
    const int64_t place = kFirst ? i : int64_t(space.places[from][i]);
    if (!kLast) {
      space.rows[1 - from][to] = key;
      space.places[1 - from][to] = uint32_t(place);
      return;
    }
    space.rows[1 - from][to] = key;
    const float value = load_number(args.value_dtype, args.values, place);
    const float factor = args.value_scale ? value * load<float>(args.value_scale, 0) : value;
    space.entries[to] = {load<int32_t>(args.colidx, place), factor};
  }
};

// starts[r]: the number of values in rows below r.
BNB_KERNEL void BNB_THREADS(kProductThreads) find_starts(const uint32_t *rows, int64_t nnz, int64_t m, uint32_t *starts) {
  for (int64_t r = int64_t(grid_index()) * thread_count() + thread_index(); r <= m; r += int64_t(grid_count()) * thread_count()) {
    int64_t low = 0, high = nnz;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (int64_t(rows[middle]) < r) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    starts[r] = uint32_t(low);
  }
}

// B[n, k] to turned[k, n], by squares in shared memory. T has the size of an element.
constexpr int kSide = 64;

template <typename T>
BNB_KERNEL void BNB_THREADS(kProductThreads) turn(GemmCooArgs args, Space space) {
  BNB_SHARED T square[kSide][kSide + 4 / sizeof(T)];
  constexpr int kDown = kProductThreads / kSide;
  const int across = int(thread_index()) % kSide, down = int(thread_index()) / kSide;
  const int64_t squares_of_k = ceil_div(args.k, kSide), squares = squares_of_k * ceil_div(args.n, kSide);
  for (int64_t i = grid_index(); i < squares; i += grid_count()) {
    const int64_t k = i % squares_of_k * kSide, n = i / squares_of_k * kSide;
    const uint32_t low = space.used[k / 32], high = k + 32 < args.k ? space.used[k / 32 + 1] : 0;
    if ((low | high) == 0) continue;  // the same for all threads
    for (int j = down; j < kSide && n + j < args.n; j += kDown) {
      if (k + across < args.k) square[j][across] = load<T>(args.b, (n + j) * args.b_stride + k + across);
    }
    barrier();
    for (int j = down; j < kSide; j += kDown) {
      const bool used = (j < 32 ? low >> j : high >> (j - 32)) & 1u;
      if (used && n + across < args.n) static_cast<T *>(space.turned)[(k + j) * space.turned_stride + n + across] = square[across][j];
    }
    barrier();
  }
}

// Tiles of columns by slices of rows, as in int8_rows.h, with one vector of columns a thread.
struct ProductGrid {
  int threads;  // of a row, a power of two
  int64_t tiles, slices;
};

// Elements of B as they are stored.
template <typename Tag>
struct FloatWeights {
  using T = typename Tag::Storage;
  static constexpr int kTogether = 16 / int(sizeof(T));
  BNB_DEVICE_METHOD FloatWeights(const GemmCooArgs &, int64_t) {}
  BNB_DEVICE_METHOD float at(const Items<T, kTogether> &items, int j) const { return Tag::widen(items.at[j]); }
};
struct Int8Weights {
  using T = int8_t;
  static constexpr int kTogether = 8;
  float stats[kTogether];
  bool scaled;

  BNB_DEVICE_METHOD Int8Weights(const GemmCooArgs &args, int64_t n) : scaled(args.col_stats != nullptr) {
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) stats[j] = scaled && n + j < args.n ? load<float>(args.col_stats, n + j) : 0.0f;
  }
  BNB_DEVICE_METHOD float at(const Items<T, kTogether> &items, int j) const {
    const float code = float(items.at[j]);
    return scaled ? code * stats[j] * (1.0f / 127.0f) : code;
  }
};

template <typename Tag, int kCount>
BNB_DEVICE void store_sums(void *out, int64_t i, int64_t count, const float *sums) {
  using T = typename Tag::Storage;
  constexpr int kTogether = kCount * sizeof(T) <= 16 ? kCount : 16 / int(sizeof(T));
  BNB_UNROLL
  for (int j = 0; j < kCount; j += kTogether) {
    Items<T, kTogether> items;
    BNB_UNROLL
    for (int k = 0; k < kTogether; ++k) items.at[k] = Tag::narrow(sums[j + k]);
    if (j + kTogether <= count) {
      store_items<T, kTogether>(out, i + j, items);
      continue;
    }
    BNB_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      if (j + k < count) store<T>(out, i + j + k, items.at[k]);
    }
  }
}

template <typename Weights>
BNB_KERNEL void BNB_THREADS(kProductThreads) multiply(GemmCooArgs args, const Entry *entries, const uint32_t *starts, ProductGrid shape) {
  using T = typename Weights::T;
  constexpr int kTogether = Weights::kTogether, kAhead = 4;
  const uint32_t threads = uint32_t(shape.threads), rows = kProductThreads / threads;
  const int64_t n = (int64_t(grid_index() % uint32_t(shape.tiles)) * threads + thread_index() % threads) * kTogether;
  const int64_t left = args.n - n;
  if (left <= 0) return;
  const Weights weights(args, n);
  const auto load_row = [&](int32_t k) {
    const int64_t at = int64_t(k) * args.b_stride + n;
    if (left >= kTogether) return load_items<T, kTogether>(args.b, at);
    Items<T, kTogether> items;
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) items.at[j] = j < left ? load<T>(args.b, at + j) : T(0);
    return items;
  };
  for (int64_t m = int64_t(grid_index() / uint32_t(shape.tiles)) * rows + thread_index() / threads; m < args.m;
       m += shape.slices * rows) {
    uint32_t i = starts[m];
    const uint32_t end = starts[m + 1];
    if (args.accumulate && i == end) continue;
    float sums[kTogether];
    BNB_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      sums[j] = args.accumulate && j < left ? load_number(args.dtype, args.out, m * args.out_stride + n + j) : 0.0f;
    }
    for (; end - i >= kAhead; i += kAhead) {
      Entry entry[kAhead];
      Items<T, kTogether> row[kAhead];
      BNB_UNROLL
      for (int a = 0; a < kAhead; ++a) entry[a] = entries[i + a];
      BNB_UNROLL
      for (int a = 0; a < kAhead; ++a) row[a] = load_row(entry[a].column);
      BNB_UNROLL
      for (int a = 0; a < kAhead; ++a) {
        BNB_UNROLL
        for (int j = 0; j < kTogether; ++j) sums[j] = fmaf(entry[a].factor, weights.at(row[a], j), sums[j]);
      }
    }
    for (; i < end; ++i) {
      const Entry entry = entries[i];
      const Items<T, kTogether> row = load_row(entry.column);
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) sums[j] = fmaf(entry.factor, weights.at(row, j), sums[j]);
    }
    const int64_t at = m * args.out_stride + n;
    if (args.dtype == DType::kF32) {
      store_sums<F32, kTogether>(args.out, at, left, sums);
    } else if (args.dtype == DType::kF16) {
      store_sums<F16, kTogether>(args.out, at, left, sums);
    } else {
      store_sums<BF16, kTogether>(args.out, at, left, sums);
    }
  }
}

template <typename Weights>
bnb_status multiply_all(const GemmCooArgs &args, const Space &space, const Queue &queue) {
  ProductGrid shape{1, 0, 0};
  while (shape.threads < kProductThreads && shape.threads * Weights::kTogether < args.n) shape.threads *= 2;
  shape.tiles = ceil_div(args.n, shape.threads * Weights::kTogether);
  const int64_t most = ceil_div(args.m, kProductThreads / shape.threads);
  const int64_t fill = ceil_div(blocks_for(queue, INT64_MAX, 64), shape.tiles);
  shape.slices = most < fill ? most : fill;
  return launch(multiply<Weights>, {shape.tiles * shape.slices, kProductThreads}, queue, args, space.entries, space.starts, shape);
}

bnb_status sort_values(const GemmCooArgs &args, Space *space, const SortUnits &units, const Queue &queue) {
  const uint32_t none = args.m < int64_t(UINT32_MAX) ? uint32_t(args.m) : UINT32_MAX;
  int passes = 1;
  while (uint64_t(none) >> (passes * kDigitBits)) ++passes;
  bnb_status status = BNB_OK;
  for (int pass = 0; pass < passes && status == BNB_OK; ++pass) {
    const int shift = pass * kDigitBits, from = (pass + passes) % 2;  // the last one goes to rows[0]
    const bool first = pass == 0, last = pass + 1 == passes;
    if (first && last) {
      status = sort_by_digit(RowKeys<true, true>{args, *space, none, from}, units, shift, queue);
    } else if (first) {
      status = sort_by_digit(RowKeys<true, false>{args, *space, none, from}, units, shift, queue);
    } else if (last) {
      status = sort_by_digit(RowKeys<false, true>{args, *space, none, from}, units, shift, queue);
    } else {
      status = sort_by_digit(RowKeys<false, false>{args, *space, none, from}, units, shift, queue);
    }
  }
  const int64_t blocks = ceil_div(args.m + 1, kProductThreads);
  if (status != BNB_OK) return status;
  return launch(find_starts, {blocks_for(queue, blocks, 8), kProductThreads}, queue, space->rows[0], args.nnz, args.m, space->starts);
}

bnb_status turn_b(GemmCooArgs *args, const Space &space, const Queue &queue) {
  const Grid grid{blocks_for(queue, ceil_div(args->k, kSide) * ceil_div(args->n, kSide), 8), kProductThreads};
  const bnb_status status = args->b_dtype == DType::kI8    ? launch(turn<uint8_t>, grid, queue, *args, space)
                            : args->b_dtype == DType::kF32 ? launch(turn<uint32_t>, grid, queue, *args, space)
                                                           : launch(turn<uint16_t>, grid, queue, *args, space);
  args->b = space.turned;
  args->b_stride = space.turned_stride;
  return status;
}

// Parts of a workspace, each aligned to 16 bytes.
class Parts {
 public:
  explicit Parts(void *base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  template <typename T>
  T *take(int64_t count) {
    const uintptr_t part = base_ + uintptr_t(used_);
    used_ += (count * int64_t(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T *>(part);
  }
  int64_t used() const { return used_; }

 private:
  uintptr_t base_;
  int64_t used_ = 0;
};

int64_t lay_out(const GemmCooArgs &args, void *base, Space *space, SortUnits *units) {
  Parts parts(base);
  for (int i = 0; i < 2; ++i) {
    space->rows[i] = parts.take<uint32_t>(args.nnz);
    space->places[i] = parts.take<uint32_t>(args.nnz);
  }
  space->entries = parts.take<Entry>(args.nnz);
  space->starts = parts.take<uint32_t>(args.m + 1);
  units->table = parts.take<uint32_t>(units->units * kDigits);
  space->used = nullptr;
  if (args.transposed_b && args.nnz > 0) {
    constexpr int64_t kStep = 16;
    const int64_t size = args.b_dtype == DType::kI8 ? 1 : float_size(args.b_dtype);
    space->used = parts.take<uint32_t>(ceil_div(args.k, 32));
    space->turned_stride = ceil_div(args.n, kStep) * kStep;
    space->turned = parts.take<char>(args.k * space->turned_stride * size);
  }
  return parts.used();
}

}  // namespace

bnb_status gemm_coo(const GemmCooArgs &args, Queue queue) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  if (args.nnz > int64_t(UINT32_MAX)) {
    return fail(BNB_ERROR_UNSUPPORTED, "%lld values, on a GPU at most %lld", (long long)args.nnz, (long long)UINT32_MAX);
  }
  Space space{};
  SortUnits units = sort_units(queue, args.nnz);
  const Workspace workspace(queue, size_t(lay_out(args, nullptr, &space, &units)));
  if (workspace.status() != BNB_OK) return workspace.status();
  lay_out(args, workspace.data(), &space, &units);

  GemmCooArgs product = args;
  bnb_status status = BNB_OK;
  if (args.nnz == 0) {
    status = set_bytes(queue, space.starts, 0, size_t(args.m + 1) * sizeof(uint32_t));
  } else {
    if (space.used) status = set_bytes(queue, space.used, 0, size_t(ceil_div(args.k, 32)) * sizeof(uint32_t));
    if (status == BNB_OK) status = sort_values(args, &space, units, queue);
    if (status == BNB_OK && space.used) status = turn_b(&product, space, queue);
  }
  if (status != BNB_OK) return status;
  if (args.b_dtype == DType::kI8) return multiply_all<Int8Weights>(product, space, queue);
  with_float(args.b_dtype, [&](auto tag) { status = multiply_all<FloatWeights<decltype(tag)>>(product, space, queue); });
  return status;
}

}  // namespace bnb::gpu
