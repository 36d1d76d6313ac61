// SPDX-License-Identifier: MIT
// Which kernel multiplies: an operation has a list of methods, and the first that fits is taken.
#ifndef BNB_METAL_METHODS_H_
#define BNB_METAL_METHODS_H_

#include "core/status.h"
#include "metal/kernels/product_shapes.h"
#include "metal/launch.h"

namespace bnb::metal {

// A launch: `units` are pieces of work of which threadgroups do one after the other.
struct Plan {
  Kernel kernel;
  int64_t units;
  int threads;
  int64_t tiles_m = 0;  // in a column of tiles, where there are tiles
};

// fits() sees what bits may depend on: shapes, dtypes and the device, and never where memory begins.
template <typename Args>
struct Method {
  const char *name;
  bool (*fits)(const Args &, const Traits &);
  Plan (*plan)(const Args &, const Traits &);
};

template <typename Args, int kMethods>
Plan plan_by(const Method<Args> (&methods)[kMethods], const Args &args, const Traits &traits) {
  int i = 0;
  while (i < kMethods - 1 && !methods[i].fits(args, traits)) ++i;  // the last one fits all
  return methods[i].plan(args, traits);
}

// Tiles of rows by kColumns outputs.
template <int kColumns>
Plan tiled(const Kernel &kernel, int64_t m, int64_t n, int rows, int threads) {
  const int64_t tiles_m = ceil_div(m, rows);
  return {kernel, tiles_m * ceil_div(n, kColumns), threads, tiles_m};
}

// Kernels of few_rows.h are made for 1, 2, 4 and kMostFewRows rows of activations: which of them, and its units of work.
inline int few_variant(int64_t m) { return m <= 1 ? 0 : m <= 2 ? 1 : m <= 4 ? 2 : 3; }
inline int64_t few_units(int64_t m, int64_t n) {
  using namespace kernels;
  constexpr int64_t kRows[] = {FewShape<1>::kRows, FewShape<2>::kRows, FewShape<4>::kRows, FewShape<kMostFewRows>::kRows};
  return ceil_div(n, kRows[few_variant(m)] * (kFewThreads / kSimdWidth));
}

}  // namespace bnb::metal

#endif  // BNB_METAL_METHODS_H_
