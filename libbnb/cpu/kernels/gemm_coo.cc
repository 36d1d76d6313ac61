// SPDX-License-Identifier: MIT
// out = S @ B for a sparse S: rows of B times the values of a row of S, added up in registers. SUM.
//
// A B that stands on its side is turned first: of the columns that the product needs, the part that a unit needs, as fp32.
#include BNB_PRODUCTS_HEADER

#include "cpu/kernels/kernels.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kCooVectors = 4;

BNB_INLINE Floats load_stats(const GemmCooArgs &args, int64_t n, int64_t count) {
  return load_some<F32>(static_cast<const char *>(args.col_stats) + n * 4, count);
}
BNB_INLINE Floats weights_of(Ints codes, Floats stats) { return mul(mul(to_float(codes), stats), splat(1.0f / 127.0f)); }

// Elements [n, n + count) of row k of B: one of these for every way B may be stored.
template <typename Tag>
struct FloatRows {
  const char *b;
  int64_t stride;
  BNB_INLINE Floats at(int64_t k, int64_t n, int64_t count) const {
    const char *p = b + (k * stride + n) * int64_t(sizeof(typename Tag::Storage));
    return count == kLanes ? load<Tag>(p) : load_some<Tag>(p, count);
  }
};
struct Int8Rows {
  const int8_t *b;
  int64_t stride;
  BNB_INLINE Ints codes(int64_t k, int64_t n, int64_t count) const {
    const int8_t *p = b + k * stride + n;
    return count == kLanes ? load_int8(p) : load_int8_some(p, count);
  }
  BNB_INLINE Floats at(int64_t k, int64_t n, int64_t count) const { return to_float(codes(k, n, count)); }
};
struct ScaledInt8Rows : Int8Rows {
  const GemmCooArgs &args;
  BNB_INLINE Floats at(int64_t k, int64_t n, int64_t count) const {
    return weights_of(codes(k, n, count), load_stats(args, n, count));
  }
};

// kVectors vectors of row m of out from column n on, the last of them of `count` columns; the rows' own columns begin at `first`.
template <typename Tag, int kVectors, typename Rows>
BNB_INLINE void multiply_row(const GemmCooKernelArgs &args, const Rows &rows, int64_t m, int64_t n, int64_t first, int64_t count) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  char *out = static_cast<char *>(args.out) + (m * args.out_stride + n) * kSize;
  const auto lanes = [&](int v) { return v == kVectors - 1 ? count : int64_t(kLanes); };
  Floats sums[kVectors];
  BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
    const char *from = out + v * kLanes * kSize;
    sums[v] = !args.accumulate ? splat(0.0f) : lanes(v) == kLanes ? load<Tag>(from) : load_some<Tag>(from, count);
  }
  for (int64_t i = args.row_starts[m]; i < args.row_starts[m + 1]; ++i) {
    const Floats factor = splat(args.factors[i]);
    BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[v] = fma(factor, rows.at(args.columns[i], n - first + v * kLanes, lanes(v)), sums[v]);
    }
  }
  BNB_UNROLL for (int v = 0; v < kVectors; ++v) {
    if (lanes(v) == kLanes) {
      store<Tag>(out + v * kLanes * kSize, sums[v]);
    } else {
      store_some<Tag>(out + v * kLanes * kSize, sums[v], count);
    }
  }
}

// first: the column of out that column 0 of `rows` belongs to.
template <typename Rows>
void multiply_part(const GemmCooKernelArgs &args, const Rows &rows, int64_t m0, int64_t m1, int64_t n0, int64_t n1, int64_t first) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t m = m0; m < m1; ++m) {
      int64_t n = n0;
      for (; n + kCooVectors * kLanes <= n1; n += kCooVectors * kLanes) {
        multiply_row<Tag, kCooVectors>(args, rows, m, n, first, kLanes);
      }
      for (; n < n1; n += kLanes) multiply_row<Tag, 1>(args, rows, m, n, first, n1 - n < kLanes ? n1 - n : kLanes);
    }
  });
}

// The used columns of rows [n0, n1) of a transposed B become rows of scratch: a few columns at a time, whose rows stay in the level
// 1 cache. at(n, k): element k of row n.
template <typename At>
BNB_INLINE void turn_by(const GemmCooKernelArgs &args, int64_t n0, int64_t n1, const At &at) {
  constexpr int64_t kColumnsTogether = 16;
  for (int64_t first = 0; first < args.used; first += kColumnsTogether) {
    const int64_t last = args.used - first < kColumnsTogether ? args.used : first + kColumnsTogether;
    for (int64_t n = n0; n < n1; ++n) {
      float *to = args.scratch + (n - n0);
      for (int64_t i = first; i < last; ++i) to[i * kCooColumns] = at(n, args.used_columns[i]);
    }
  }
}

void turn(const GemmCooKernelArgs &args, int64_t n0, int64_t n1) {
  const int8_t *codes = static_cast<const int8_t *>(args.b);
  if (args.b_dtype != DType::kI8) {
    with_float(args.b_dtype, [&](auto tag) {
      turn_by(args, n0, n1, [&](int64_t n, int64_t k) { return load_float<decltype(tag)>(args.b, n * args.b_stride + k); });
    });
  } else if (args.col_stats) {
    turn_by(args, n0, n1, [&](int64_t n, int64_t k) {
      return float(codes[n * args.b_stride + k]) * bnb::load<float>(args.col_stats, n) * (1.0f / 127.0f);
    });
  } else {
    turn_by(args, n0, n1, [&](int64_t n, int64_t k) { return float(codes[n * args.b_stride + k]); });
  }
}

}  // namespace

void gemm_coo(const GemmCooKernelArgs &args, int64_t begin, int64_t end) {
  const int64_t down = ceil_div(args.m, args.unit_rows);
  int64_t turned = -1;  // the columns of out whose part of B is in scratch
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n0 = unit / down * kCooColumns, n1 = args.n - n0 < kCooColumns ? args.n : n0 + kCooColumns;
    const int64_t m0 = unit % down * args.unit_rows, m1 = args.m - m0 < args.unit_rows ? args.m : m0 + args.unit_rows;
    if (args.transposed_b) {
      if (turned != n0) turn(args, n0, n1);
      turned = n0;
      const FloatRows<F32> rows{reinterpret_cast<const char *>(args.scratch), kCooColumns};
      multiply_part(args, rows, m0, m1, n0, n1, n0);
    } else if (args.b_dtype != DType::kI8) {
      with_float(args.b_dtype, [&](auto tag) {
        const FloatRows<decltype(tag)> rows{static_cast<const char *>(args.b), args.b_stride};
        multiply_part(args, rows, m0, m1, n0, n1, 0);
      });
    } else if (args.col_stats) {
      multiply_part(args, ScaledInt8Rows{{static_cast<const int8_t *>(args.b), args.b_stride}, args}, m0, m1, n0, n1, 0);
    } else {
      multiply_part(args, Int8Rows{static_cast<const int8_t *>(args.b), args.b_stride}, m0, m1, n0, n1, 0);
    }
  }
}

}  // namespace bnb::cpu::BNB_ISA
