// SPDX-License-Identifier: MIT
// The arithmetic that kernels write out in integers gives what the processor's gives, whether or not the kernels' processor knows
// subnormal numbers: all pairs of remarkable numbers, numbers near them, and random bits.
#include "metal/arithmetic.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "formats/float16.h"
#include "metal/flushing.h"

namespace {

int failures = 0;

template <typename Float, typename Bits>
Float number(Bits bits) {
  Float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
uint32_t bits_of(float x) { return number<uint32_t>(x); }
uint64_t bits_of(double x) { return number<uint64_t>(x); }
bool is_nan(uint32_t bits) { return std::isnan(number<float>(bits)); }
bool is_nan(uint64_t bits) { return std::isnan(number<double>(bits)); }

template <typename Bits>
std::vector<Bits> operands(int exponent_bits, int fraction_bits, std::mt19937_64 &random, int count) {
  std::vector<Bits> some;
  const Bits sign = Bits(1) << (exponent_bits + fraction_bits);
  const Bits half = Bits(1) << (fraction_bits - 1);
  const Bits fractions[] = {0, 1, 2, 3, 2 * half - 1, half, half + 1};
  const Bits most = (Bits(1) << exponent_bits) - 1, middle = most / 2;
  const Bits exponents[] = {0,          1,      2,          26,          27,          38,          39,       40,       middle - 24,
                            middle - 1, middle, middle + 1, middle + 23, middle + 29, middle + 62, most - 2, most - 1, most};
  for (Bits exponent : exponents) {
    for (Bits fraction : fractions) {
      some.push_back((exponent << fraction_bits) | fraction);
      some.push_back(sign | some.back());
    }
  }
  while (int(some.size()) < count) {
    Bits bits = Bits(random());
    if (some.size() % 3 == 0) bits &= ~(Bits(most - 15) << fraction_bits);  // few bits of exponent: subnormal and tiny ones
    some.push_back(bits);
  }
  return some;
}

// NaN is as good as any other.
template <typename Bits, typename Run, typename Want>
void check_run(const char *name, const std::vector<Bits> &a, const std::vector<Bits> &b, const Run &run, const Want &want) {
  std::vector<Bits> got(a.size());
  for (bool flush : {false, true}) {
    {
      const metal_host::Flushing flushing(flush);
      run(got.data());
    }
    int wrong = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const Bits expected = want(i);
      if (got[i] == expected || (is_nan(got[i]) && is_nan(expected))) continue;
      if (wrong++ == 0) {
        std::printf("FAIL %s of %llx and %llx%s: %llx, must be %llx\n", name, (unsigned long long)a[i], (unsigned long long)b[i],
                    flush ? " (flushing)" : "", (unsigned long long)got[i], (unsigned long long)expected);
      }
    }
    failures += wrong > 0;
  }
}

template <typename Bits, typename Operation, typename Want>
void check(const char *name, Operation operation, const std::vector<Bits> &a, const std::vector<Bits> &b, const Want &want) {
  check_run(name, a, b, [&](Bits *got) { arithmetic::run(operation, a.data(), b.data(), got, int(a.size())); },
            [&](size_t i) { return want(a[i], b[i]); });
}

// Pairs: all of the first ones with each other, the others as they come.
template <typename Bits>
void pairs(const std::vector<Bits> &some, size_t all, std::vector<Bits> *a, std::vector<Bits> *b) {
  constexpr int fraction_bits = sizeof(Bits) == 8 ? 52 : 23;
  for (size_t i = 0; i < all; ++i) {
    for (size_t j = 0; j < all; ++j) {
      a->push_back(some[i]);
      b->push_back(some[j]);
    }
  }
  for (size_t i = all; i + 1 < some.size(); ++i) {
    a->push_back(some[i]);
    b->push_back(some[i + 1]);
    a->push_back(some[i]);  // neighbours, whose differences are small
    b->push_back(some[i] ^ (Bits(1) << (sizeof(Bits) * 8 - 1)) ^ Bits(i % 1024));
    a->push_back(some[i]);  // and numbers that are smaller by as many bits as a fraction has, more or less
    b->push_back(some[i + 1] % (Bits(1) << fraction_bits) + (some[i] >> fraction_bits << fraction_bits) - (Bits(i % 64) << fraction_bits));
  }
}

// With numbers that have little to do with the product, and with some that leave little of it.
void check_multiply_add(const std::vector<uint32_t> &a, const std::vector<uint32_t> &b, std::mt19937_64 &random) {
  const std::vector<uint32_t> some = operands<uint32_t>(8, 23, random, 100000);
  std::vector<uint32_t> c(a.size());
  const auto f = [](uint32_t bits) { return number<float>(bits); };
  for (const char *name : {"product and sum", "product and difference"}) {
    const bool near = std::strstr(name, "difference") != nullptr;
    for (size_t i = 0; i < a.size(); ++i) {
      c[i] = near ? bits_of(-(f(a[i]) * f(b[i]))) ^ uint32_t(random() % 4) : some[random() % (i % 2 ? some.size() : 252)];
    }
    check_run(name, a, b, [&](uint32_t *got) { arithmetic::run_multiply_add(a.data(), b.data(), c.data(), got, int(a.size())); },
              [&](size_t i) { return bits_of(std::fma(f(a[i]), f(b[i]), f(c[i]))); });
  }
}

void check_32(std::mt19937_64 &random) {
  std::vector<uint32_t> a, b;
  pairs(operands<uint32_t>(8, 23, random, 400000), 252, &a, &b);
  const auto f = [](uint32_t bits) { return number<float>(bits); };
  using namespace arithmetic;
  check("product", kMultiply, a, b, [&](uint32_t x, uint32_t y) { return bits_of(f(x) * f(y)); });
  check("quotient", kDivide, a, b, [&](uint32_t x, uint32_t y) { return bits_of(f(x) / f(y)); });
  check("sum", kAdd, a, b, [&](uint32_t x, uint32_t y) { return bits_of(f(x) + f(y)); });
  check("difference", kSubtract, a, b, [&](uint32_t x, uint32_t y) { return bits_of(f(x) - f(y)); });
  check("square root", kSquareRoot, a, b, [&](uint32_t x, uint32_t) { return bits_of(std::sqrt(f(x))); });
  check_multiply_add(a, b, random);
  const auto half = [](uint32_t bits) {
    const uint16_t narrow = bnb::formats::fp16_from_float(number<float>(bits));
    return uint32_t(narrow);
  };
  std::vector<uint32_t> numbers;
  for (uint32_t x : a) {
    if (!is_nan(x)) numbers.push_back(x);
  }
  check("narrowing to half", kNarrowHalf, numbers, numbers, [&](uint32_t x, uint32_t) { return half(x); });
  std::vector<uint32_t> halves;
  for (uint32_t x = 0; x < 65536; ++x) halves.push_back(x);
  check("widening of half", kWidenHalf, halves, halves, [&](uint32_t x, uint32_t) {
    return bits_of(bnb::formats::float_from_fp16(uint16_t(x)));
  });
  for (size_t i = 0; i + 1 < numbers.size(); ++i) {
    const uint32_t pair[2] = {numbers[i], numbers[i + 1]};
    uint32_t order[2];
    run(kOrder, pair, pair, order, 2);
    if ((f(pair[0]) < f(pair[1])) == (int32_t(order[0]) < int32_t(order[1]))) continue;
    ++failures;
    std::printf("FAIL order of %x and %x\n", pair[0], pair[1]);
    break;
  }
}

void check_64(std::mt19937_64 &random) {
  std::vector<uint64_t> a, b;
  pairs(operands<uint64_t>(11, 52, random, 400000), 252, &a, &b);
  const auto f = [](uint64_t bits) { return number<double>(bits); };
  const auto low = [](uint64_t bits) { return number<float>(uint32_t(bits)); };
  using namespace arithmetic;
  check("float64 sum", kAdd64, a, b, [&](uint64_t x, uint64_t y) { return bits_of(f(x) + f(y)); });
  check("float64 sum of magnitudes", kAddPositive64, a, b,
        [&](uint64_t x, uint64_t y) { return bits_of(std::fabs(f(x)) + std::fabs(f(y))); });
  check("float64 difference", kSubtract64, a, b, [&](uint64_t x, uint64_t y) { return bits_of(f(x) - f(y)); });
  check("float64 product", kMultiply64, a, b, [&](uint64_t x, uint64_t y) { return bits_of(f(x) * f(y)); });
  check("float64 quotient", kDivide64, a, b, [&](uint64_t x, uint64_t y) { return bits_of(f(x) / f(y)); });
  check("float64 square root", kSquareRoot64, a, b, [&](uint64_t x, uint64_t) { return bits_of(std::sqrt(f(x))); });
  check("float64 from long", kFromLong, a, b, [&](uint64_t x, uint64_t) { return bits_of(double(int64_t(x))); });
  check("float64 order", kLess, a, b, [&](uint64_t x, uint64_t y) { return uint64_t(f(x) < f(y)); });
  check("float64 product of floats", kProduct, a, b, [&](uint64_t x, uint64_t y) { return bits_of(double(low(x)) * double(low(y))); });
  check("float64 square of a float", kSquare, a, b, [&](uint64_t x, uint64_t) { return bits_of(double(low(x)) * double(low(x))); });
  check("float64 from float", kFromFloat, a, b, [&](uint64_t x, uint64_t) { return bits_of(double(low(x))); });

  std::vector<uint32_t> singles;  // and numbers around the midpoints of neighbours in fp32
  pairs(operands<uint32_t>(8, 23, random, 400000), 0, &singles, &singles);
  std::vector<uint64_t> wide = a;
  for (uint32_t x : singles) {
    const uint64_t exact = bits_of(double(number<float>(x)));
    wide.push_back(exact + (uint64_t(1) << 28));
    wide.push_back(exact + (uint64_t(1) << 28) - 1);
    wide.push_back(exact + (uint64_t(1) << 28) + 1);
  }
  std::vector<uint64_t> numbers;
  for (uint64_t x : wide) {
    if (!is_nan(x)) numbers.push_back(x);
  }
  check("float from float64", kToFloat, numbers, numbers, [&](uint64_t x, uint64_t) { return uint64_t(bits_of(float(f(x)))); });
}

}  // namespace

int main() {
  std::mt19937_64 random(20260214);
  check_32(random);
  check_64(random);
  std::printf("%d failures\n", failures);
  return failures != 0;
}
