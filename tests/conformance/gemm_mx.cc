// SPDX-License-Identifier: MIT
// cgemm_mx.
#include "mx.h"
#include "product.h"

using namespace conformance;

namespace {

// Shapes around every edge of the kernels: lanes, loads of 64 and 128 codes, tiles, stretches of K, panels.
std::vector<ProductCase> shapes(int64_t blocksize, bool quick) {
  std::vector<ProductCase> cases;
  for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33}) cases.push_back({m, 37, 320, blocksize});
  for (int64_t n : {1, 5, 12, 13, 16, 31, 32, 33, 64, 65}) cases.push_back({6, n, 128, blocksize});
  for (int64_t n : {5, 16}) cases.push_back({2, n, 192, blocksize});
  for (int64_t blocks : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 17}) {
    for (int64_t m : {1, 3, 5, 6, 18}) cases.push_back({m, 9, blocks * blocksize, blocksize});
  }
  for (int64_t m : {0, 1, 6, 18}) cases.push_back({m, 0, 64, blocksize});
  cases.push_back({0, 16, 64, blocksize});
  for (int64_t n : {9, 72}) cases.push_back({70, n, 192, blocksize});  // many rows of GPUs
  if (quick) return cases;
  for (int64_t m : {1, 4, 17, 70}) cases.push_back({m, 300, 2304, blocksize});  // several panels, several stretches
  for (int64_t m : {260, 515}) cases.push_back({m, 45, 1056, blocksize});
  cases.push_back({2, 9, 20480, blocksize});  // more scales in a row than are read at once
  cases.push_back({20, 9, 20480, blocksize});
  return cases;
}

}  // namespace

CONFORMANCE(gemm_mx) {
  for (const MxFormat &format : kMxFormats) {
    check_shapes(suite, shapes(format.blocksize, suite.quick()), [&](ProductCase &c) { c.quant_type = format.quant_type; });
    for (DLDataType dtype : kFloats) {
      const int64_t blocksize = format.blocksize;
      const bnb_quant_type type = format.quant_type;
      for (int64_t m : {1, 3, 6, 40}) {
        for (Bias bias : {Bias::kSame, Bias::kF32}) check_product(suite, {m, 70, 256, blocksize, type, dtype, bias});
        check_product(suite, {m, 70, 256, blocksize, type, dtype, Bias::kSame, 0, 3, 5});
        check_product(suite, {m, 45, 3 * blocksize, blocksize, type, dtype, Bias::kSame, 0, 1, 1});
        check_product(suite, {m, 24, 256, blocksize, type, dtype, Bias::kNone, 0, 0, 0, Special::kTiny});
        check_product(suite, {m, 24, 256, blocksize, type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
      }
    }
  }
  for (const MxFormat &format : kMxFormats) {
    for (DLDataType dtype : kFloats) {
      for (int64_t m : {1, 8, 16, 128})
        bench_product(suite, {m, 4096, 4096, format.blocksize, format.quant_type, dtype});
    }
  }
}
