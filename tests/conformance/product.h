// SPDX-License-Identifier: MIT
// Cases of products with quantized weights: within the bound of bnb.h of the product in float64, the same bits for every placement
// and number of threads.
#ifndef TESTS_CONFORMANCE_PRODUCT_H_
#define TESTS_CONFORMANCE_PRODUCT_H_

#include "sizes.h"
#include "suite.h"

namespace conformance {

enum class Bias { kNone, kSame, kF32 };
enum class Special { kNo, kTiny, kNotFinite };

struct ProductCase {
  int64_t m, n, k, blocksize;
  bnb_quant_type quant_type = BNB_NF4;
  DLDataType dtype = kF32;
  Bias bias = Bias::kNone;
  int64_t nested_blocksize = 0, a_gap = 0, out_gap = 0;
  Special special = Special::kNo;
};

// Checks the case on each target.
void check_product(Suite &suite, const ProductCase &c);

// Each case with each float dtype, or one of them in turn in quick runs. `choose` gets it with its dtype and gives it a format.
template <typename Choose>
void check_shapes(Suite &suite, const std::vector<ProductCase> &cases, const Choose &choose) {
  for (size_t i = 0; i < cases.size(); ++i) {
    for (size_t dtype = 0; dtype < std::size(kFloats); ++dtype) {
      ProductCase c = cases[i];
      c.dtype = kFloats[dtype];
      choose(c);
      if (suite.quick() && dtype != Turns::of(i)) continue;
      check_product(suite, c);
    }
  }
}

// Its row of --bench.
void bench_product(Suite &suite, const ProductCase &c);

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_PRODUCT_H_
