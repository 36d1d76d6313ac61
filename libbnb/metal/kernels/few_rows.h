// SPDX-License-Identifier: MIT
// Products with few rows of activations, whatever the weights are: reading them once is all there is to it. A simdgroup takes kRows rows
// of weights at a time, along which its lanes read pieces next to each other, so that what a lane has loaded of activations serves all
// of these rows. No barriers: a simdgroup adds up what its lanes have.
//
// A Product is a class with
//   Sum                       what lanes add up: float or int
//   add(rows, piece, sums)    adds the products of a piece of each of kRows rows of weights with kM rows of activations:
//                             sums[r * kM + m]
//   store(m, n, sum)          writes an output
#ifndef BNB_METAL_KERNELS_FEW_ROWS_H_
#define BNB_METAL_KERNELS_FEW_ROWS_H_

#include "metal/kernels/common.h"
#include "metal/kernels/product_shapes.h"

namespace bnb {
namespace kernels {

// m, n: rows of activations and of weights, which have `pieces` pieces. simdgroup: of the grid, of so many.
template <typename Product, int kM>
inline void multiply_few_rows(thread const Product &product, long m, long n, long pieces, uint lane, long simdgroup, long simdgroups) {
  enum : int { kRows = FewShape<kM>::kRows, kSums = kRows * kM };
  static_assert(kSums <= int(kLanes), "a lane writes an output");
  for (long first = simdgroup * kRows; first < n; first += simdgroups * kRows) {
    long rows[kRows];
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) rows[r] = first + r < n ? first + r : n - 1;  // read again, not written
    typename Product::Sum sums[kSums];
    BNB_UNROLL
    for (int i = 0; i < kSums; ++i) sums[i] = 0;
    for (long piece = long(lane); piece < pieces; piece += kLanes) product.add(rows, piece, sums);
    typename Product::Sum mine = 0;
    BNB_UNROLL
    for (int i = 0; i < kSums; ++i) {
      const typename Product::Sum sum = simd_sum(sums[i]);
      if (int(lane) == i) mine = sum;
    }
    const long column = first + int(lane) / kM, row = int(lane) % kM;
    if (int(lane) < kSums && column < n && row < m) product.store(row, column, mine);
  }
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_FEW_ROWS_H_
