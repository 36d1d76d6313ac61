// SPDX-License-Identifier: MIT
// cgemm_fp8.
#include "product.h"

using namespace conformance;

namespace {

// Shapes around every edge of the kernels: lanes, loads of 16, 32 and 64 codes, tiles, stretches of K, panels.
std::vector<ProductCase> shapes(bool quick) {
  std::vector<ProductCase> cases;
  for (int64_t m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33}) {
    cases.push_back({m, 37, 320, 320});
    cases.push_back({m, 37, 320, 64});
  }
  for (int64_t n : {1, 5, 12, 13, 16, 31, 32, 33, 64, 65}) cases.push_back({6, n, 128, 128});
  for (int64_t k : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 257}) {  // one scale per row
    for (int64_t m : {1, 2, 6, 18}) cases.push_back({m, 9, k, k});
  }
  for (int64_t blocksize : {1, 2, 3, 4, 8, 12, 16, 24, 32, 64, 96, 128, 192, 256, 384, 512}) {
    for (int64_t m : {1, 5, 20}) {
      cases.push_back({m, 7, 3 * blocksize, blocksize});
      cases.push_back({m, 7, quick && blocksize < 64 ? 192 : 768, blocksize});
    }
  }
  for (int64_t blocksize : {50, 1000, 5000}) {  // blocks of several rows
    for (int64_t m : {1, 6, 18}) cases.push_back({m, 20, 125, blocksize});
  }
  for (int64_t m : {0, 1, 6, 18}) {
    cases.push_back({m, 0, 64, 64});
    cases.push_back({m, 4, 0, 64});
  }
  cases.push_back({0, 16, 64, 64});
  for (int64_t n : {9, 72}) cases.push_back({70, n, 192, 64});  // many rows of GPUs
  if (quick) return cases;
  for (int64_t m : {1, 4, 17, 70}) {  // several panels, several stretches
    cases.push_back({m, 300, 2304, 2304});
    cases.push_back({m, 300, 2304, 128});
  }
  for (int64_t m : {260, 515}) cases.push_back({m, 45, 1100, 1100});
  cases.push_back({2, 9, 20480, 64});  // more scales in a row than are read at once
  cases.push_back({20, 9, 20480, 4});
  return cases;
}

}  // namespace

CONFORMANCE(gemm_fp8) {
  bool other = false;  // each dtype meets both formats
  check_shapes(suite, shapes(suite.quick()), [&](ProductCase &c) {
    other = !other;
    c.quant_type = other ? BNB_FP8_E4M3FN : BNB_FP8_E5M2;
  });
  for (DLDataType dtype : kFloats) {
    for (bnb_quant_type quant_type : {BNB_FP8_E4M3FN, BNB_FP8_E5M2}) {
      for (int64_t m : {1, 3, 6, 40}) {
        for (int64_t blocksize : {256, 64}) {
          for (Bias bias : {Bias::kSame, Bias::kF32}) check_product(suite, {m, 70, 256, blocksize, quant_type, dtype, bias});
          check_product(suite, {m, 70, 256, blocksize, quant_type, dtype, Bias::kSame, 0, 3, 5});
          check_product(suite, {m, 24, 256, blocksize, quant_type, dtype, Bias::kNone, 0, 0, 0, Special::kTiny});
          check_product(suite, {m, 24, 256, blocksize, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
        }
        check_product(suite, {m, 45, 255, 64, quant_type, dtype, Bias::kSame, 0, 1, 1});
        check_product(suite, {m, 24, 250, 64, quant_type, dtype, Bias::kSame, 0, 0, 0, Special::kNotFinite});
      }
    }
  }
  for (DLDataType dtype : kFloats) {
    for (int64_t m : {1, 8, 16, 128}) bench_product(suite, {m, 4096, 4096, 4096, BNB_FP8_E4M3FN, dtype});
  }
}
