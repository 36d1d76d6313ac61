// SPDX-License-Identifier: MIT
// The int8 product for few rows of activations, which has to be as fast as weights can be read.
//
// Both sides lie along K and are read where they are: a vector of weights meets that of every row. The sums of kLanes rows of
// weights wait in vectors, whose lanes are added across by a transpose.
#ifndef BNB_CPU_KERNELS_GEMM_INT8_FEW_H_
#define BNB_CPU_KERNELS_GEMM_INT8_FEW_H_

#include "cpu/kernels/weights_int8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kInt8FewRows = kLanes == 16 ? 16 : 8;
constexpr int64_t kInt8PrefetchBytes = 2048;  // ahead of what is read: the hardware's own prefetching ends with a page

// What is added to the sums of each row, behind the outliers in `packed`: int32 [m].
BNB_INLINE int32_t *few_corrections(const GemmInt8KernelArgs &args) {
  return reinterpret_cast<int32_t *>(args.packed + Int8Weights::front_bytes(args));
}

void pack_int8_few(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    Int8Weights::pack_front(args, group);
    if (Dot::kOffset == 0) continue;
    for (int64_t row = group * kLanes; row < smaller(args.m, (group + 1) * kLanes); ++row) {
      Ints sum = splat_int(0);
      const int8_t *a = args.a + row * args.a_stride;
      for (int64_t k = 0; k < args.k; k += kDotElements) sum = Dot::add(sum, Dot::ones(), load_dot(a + k, args.k - k));
      int32_t lanes[kLanes];
      store_int32(lanes, sum);
      int32_t total = 0;
      for (int32_t lane : lanes) total += lane;
      few_corrections(args)[row] = -Dot::kOffset * total;
    }
  }
}

// sums[m] = the products of one row of weights with kRows rows of activations, spread over the lanes.
template <int kRows>
BNB_INLINE void multiply_int8_row(const GemmInt8KernelArgs &args, const int8_t *w, const int8_t *const (&a)[kRows],
                                  Ints (&sums)[kRows]) {
  BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = splat_int(0);
  int64_t k = 0;
  for (; k + kDotElements <= args.k; k += kDotElements) {
    const Ints weights = Dot::weights(Dot::load(w + k));
    prefetch(w + k + kInt8PrefetchBytes);
    BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = Dot::add(sums[m], weights, Dot::load(a[m] + k));
  }
  if (k == args.k) return;
  const Ints weights = Dot::weights(Dot::load_some(w + k, args.k - k));
  BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = Dot::add(sums[m], weights, Dot::load_some(a[m] + k, args.k - k));
}

// Groups [begin, end) of kLanes columns of out. There may be less than kRows rows: the last one is then multiplied again.
template <int kRows>
void multiply_int8_few_rows(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  const int8_t *a[kRows];
  for (int m = 0; m < kRows; ++m) a[m] = args.a + smaller(m, args.m - 1) * args.a_stride;
  for (int64_t group = begin; group < end; ++group) {
    const int64_t n0 = group * kLanes, count = smaller(kLanes, args.n - n0);
    Floats sums[kRows][kLanes];
    for (int64_t n = 0; n < kLanes; ++n) {
      Ints row[kRows];
      if (n < count) {
        multiply_int8_row<kRows>(args, args.b + (n0 + n) * args.b_stride, a, row);
      } else {
        BNB_UNROLL for (int m = 0; m < kRows; ++m) row[m] = splat_int(0);
      }
      BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m][n] = from_bits(row[m]);
    }
    const Columns columns = Int8Weights::load_columns(args, n0, count, reinterpret_cast<float *>(args.scratch), 0);
    for (int64_t m0 = 0; m0 < args.m; m0 += kLanes) {
      Floats rows[kLanes] = {};
      const int64_t rows_here = smaller(kLanes, args.m - m0);
      for (int64_t m = 0; m < rows_here; ++m) {
        transpose(sums[m0 + m]);
        Ints total = splat_int(Dot::kOffset ? few_corrections(args)[m0 + m] : 0);
        BNB_UNROLL for (int i = 0; i < kLanes; ++i) total = add_int(total, bits(sums[m0 + m][i]));
        rows[m] = from_bits(total);
      }
      Int8Weights::write_rows(args, columns, m0, rows_here, rows);
    }
  }
}

void multiply_int8_few(const GemmInt8KernelArgs &args, int64_t begin, int64_t end) {
  if (args.m == 1) return multiply_int8_few_rows<1>(args, begin, end);
  if (args.m == 2) return multiply_int8_few_rows<2>(args, begin, end);
  if (args.m <= 4) return multiply_int8_few_rows<4>(args, begin, end);
  if (args.m <= 8 || kInt8FewRows == 8) return multiply_int8_few_rows<8>(args, begin, end);
  if constexpr (kInt8FewRows > 8) {
    if (args.m <= 12) return multiply_int8_few_rows<12>(args, begin, end);
    multiply_int8_few_rows<16>(args, begin, end);
  }
}

ProductPlan plan_int8_few(const GemmInt8Args &args, int) {
  ProductPlan plan{};
  plan.units = ceil_div(args.n, kLanes);
  plan.unit_cost = kLanes * (args.k + args.k * args.m / 8);
  plan.pack_units = Dot::kOffset || args.outliers ? ceil_div(args.m, kLanes) : 0;
  plan.pack_unit_cost = kLanes * (args.k + 64 * args.outliers);
  plan.packed_bytes = Int8Weights::front_bytes(args) + (Dot::kOffset ? args.m * 4 : 0);
  plan.scratch_bytes = args.outliers * kVectorBytes;
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_INT8_FEW_H_
