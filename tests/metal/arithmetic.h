// SPDX-License-Identifier: MIT
// The arithmetic of libbnb/metal/kernels on arrays of bits: what arithmetic_kernels.cc offers to arithmetic_test.cc.
#ifndef TESTS_METAL_ARITHMETIC_H_
#define TESTS_METAL_ARITHMETIC_H_

namespace arithmetic {

enum Operation32 { kMultiply, kDivide, kAdd, kSubtract, kSquareRoot, kWidenHalf, kNarrowHalf, kOrder };
enum Operation64 {
  kAdd64, kAddPositive64, kSubtract64, kMultiply64, kDivide64, kSquareRoot64, kFromFloat, kToFloat, kFromLong, kProduct, kSquare, kLess
};

void run(Operation32 operation, const unsigned *a, const unsigned *b, unsigned *out, int count);
void run_multiply_add(const unsigned *a, const unsigned *b, const unsigned *c, unsigned *out, int count);
void run(Operation64 operation, const unsigned long *a, const unsigned long *b, unsigned long *out, int count);

}  // namespace arithmetic

#endif  // TESTS_METAL_ARITHMETIC_H_
