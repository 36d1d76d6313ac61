// SPDX-License-Identifier: MIT
// Compiled as kernels are, so that the functions run as Metal's compiler would see them.
#include <metal_stdlib>

#include "metal/arithmetic.h"
#include "metal/kernels/float64.h"
#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace arithmetic {

static uint result(Operation32 operation, uint a, uint b) {
  const float x = float_from_bits(a), y = float_from_bits(b);
  switch (operation) {
    case kMultiply: return bits_from_float(ieee::multiply(x, y));
    case kDivide: return bits_from_float(ieee::divide(x, y));
    case kAdd: return bits_from_float(ieee::add(x, y));
    case kSubtract: return bits_from_float(ieee::subtract(x, y));
    case kSquareRoot: return bits_from_float(ieee::square_root(x));
    case kWidenHalf: return bits_from_float(F16::widen(a & 0xFFFFu));
    case kNarrowHalf: return F16::narrow(x);
    case kOrder: return uint(order_of(x));
  }
  return 0;
}

static ulong result(Operation64 operation, ulong a, ulong b) {
  const float x = float_from_bits(uint(a)), y = float_from_bits(uint(b));
  switch (operation) {
    case kAdd64: return f64_add(a, b);
    case kAddPositive64: return f64_add_positive(f64_magnitude(a), f64_magnitude(b));
    case kSubtract64: return f64_subtract(a, b);
    case kMultiply64: return f64_multiply(a, b);
    case kDivide64: return f64_divide(a, b);
    case kSquareRoot64: return f64_square_root(a);
    case kFromFloat: return f64_from_float(x);
    case kToFloat: return bits_from_float(f64_to_float(a));
    case kFromLong: return f64_from_long(long(a));
    case kProduct: return f64_product(x, y);
    case kSquare: return f64_square(x);
    case kLess: return f64_less(a, b) ? 1 : 0;
  }
  return 0;
}

void run(Operation32 operation, const uint *a, const uint *b, uint *out, int count) {
  for (int i = 0; i < count; ++i) out[i] = result(operation, a[i], b[i]);
}
void run_multiply_add(const uint *a, const uint *b, const uint *c, uint *out, int count) {
  for (int i = 0; i < count; ++i) {
    out[i] = bits_from_float(ieee::multiply_add(float_from_bits(a[i]), float_from_bits(b[i]), float_from_bits(c[i])));
  }
}
void run(Operation64 operation, const ulong *a, const ulong *b, ulong *out, int count) {
  for (int i = 0; i < count; ++i) out[i] = result(operation, a[i], b[i]);
}

}  // namespace arithmetic
