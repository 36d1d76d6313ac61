// SPDX-License-Identifier: MIT
// cgemm_4bit.
#include "product.h"

using namespace conformance;

namespace {

// Shapes around every edge of the kernels: lanes, loads of 64 and 128 codes, tiles, stretches of K, panels.
std::vector<ProductCase> shapes(bool quick) {
  std::vector<ProductCase> cases;
  for (int64_t m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33}) cases.push_back({m, 37, 320, 64});
  for (int64_t n : {1, 5, 12, 13, 16, 31, 32, 33, 64, 65}) cases.push_back({6, n, 128, 64});
  for (int64_t n : {5, 16}) cases.push_back({2, n, 192, 64});
  for (int64_t k : {0, 1, 2, 3, 8, 31, 63, 64, 65, 127, 128, 129, 192, 257}) {
    for (int64_t m : {1, 6, 18}) cases.push_back({m, 9, k, 64});
  }
  for (int64_t k : {8, 24, 72, 96, 200, 328}) {  // rows of one block each
    for (int64_t m : {1, 2, 6, 18}) cases.push_back({m, 9, k, k});
  }
  for (int64_t blocksize : {2, 4, 6, 8, 10, 16, 24, 32, 96, 128, 192, 256, 384, 512, 4096}) {
    for (int64_t m : {1, 5, 20}) {
      cases.push_back({m, 7, 3 * blocksize, blocksize});
      cases.push_back({m, 7, quick && blocksize < 64 ? 192 : 768, blocksize});
    }
  }
  for (int64_t m : {0, 1, 6, 18}) cases.push_back({m, 0, 64, 64});
  cases.push_back({0, 16, 64, 64});
  for (int64_t n : {9, 72}) cases.push_back({70, n, 192, 64});  // many rows of GPUs
  if (quick) return cases;
  for (int64_t m : {1, 4, 17, 70}) cases.push_back({m, 300, 2304, 64});  // several panels, several stretches
  for (int64_t m : {260, 515}) cases.push_back({m, 45, 1088, 64});
  cases.push_back({2, 9, 20480, 64});  // more scales in a row than are read at once
  cases.push_back({20, 9, 20480, 32});
  return cases;
}

}  // namespace

CONFORMANCE(gemm_4bit) {
  bool other = false;  // each dtype meets both formats
  check_shapes(suite, shapes(suite.quick()), [&](ProductCase &c) {
    other = !other;
    c.quant_type = other ? BNB_FP4 : BNB_NF4;
  });
  for (DLDataType dtype : kFloats) {
    for (bnb_quant_type quant_type : {BNB_NF4, BNB_FP4}) {
      for (int64_t m : {1, 3, 6, 40}) {
        for (Bias bias : {Bias::kSame, Bias::kF32}) check_product(suite, {m, 70, 256, 64, quant_type, dtype, bias});
        check_product(suite, {m, 70, 256, 64, quant_type, dtype, Bias::kSame, 0, 3, 5});
        check_product(suite, {m, 45, 255, 64, quant_type, dtype, Bias::kSame, 0, 1, 1});
        for (int64_t nested : {256, 7, 1}) check_product(suite, {m, 33, 512, 64, quant_type, dtype, Bias::kNone, nested});
        check_product(suite, {m, 33, 99, 32, quant_type, dtype, Bias::kNone, 256});
        check_product(suite, {m, 24, 256, 64, quant_type, dtype, Bias::kNone, 0, 0, 0, Special::kTiny});
        check_product(suite, {m, 24, 256, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
        check_product(suite, {m, 24, 250, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
      }
    }
  }
  for (DLDataType dtype : kFloats) {
    for (int64_t m : {1, 8, 16, 128}) {
      bench_product(suite, {m, 4096, 4096, 64, BNB_NF4, dtype});
    }
  }
}
