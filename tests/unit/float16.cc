// SPDX-License-Identifier: MIT
// fp16, bf16 and FP8 conversions, every code, against the definition of the formats in double arithmetic.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/features.h"
#include "check.h"
#include "conformance/random.h"
#include "formats/float16.h"
#include "formats/fp8.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace bnb::formats;

namespace {

// A binary format by its parameters. top_is_number: the largest exponent holds numbers, and only the last code is NaN
// (E4M3FN).
struct Format {
  const char *name;
  int bits, mantissa_bits, bias;
  bool top_is_number, saturates;

  uint32_t sign_bit() const { return 1u << (bits - 1); }
  uint32_t exponent_of(uint32_t magnitude) const { return magnitude >> mantissa_bits; }
  uint32_t top_exponent() const { return (sign_bit() - 1) >> mantissa_bits; }
  uint32_t largest() const {  // the finite magnitude
    return top_is_number ? sign_bit() - 2 : (top_exponent() << mantissa_bits) - 1;
  }

  double value(uint32_t code) const {
    const double sign = code & sign_bit() ? -1.0 : 1.0;
    const uint32_t magnitude = code & (sign_bit() - 1), exponent = exponent_of(magnitude);
    const double fraction = double(magnitude & ((1u << mantissa_bits) - 1)) / double(1u << mantissa_bits);
    if (magnitude > largest()) {
      const bool infinite = !top_is_number && magnitude == largest() + 1;
      return infinite ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    }
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
    return sign * std::ldexp(1.0 + fraction, int(exponent) - bias);
  }
};

constexpr Format kFp16{"fp16", 16, 10, 15, false, false}, kBf16{"bf16", 16, 7, 127, false, false};
constexpr Format kE4M3FN{"e4m3fn", 8, 3, 7, true, true}, kE5M2{"e5m2", 8, 2, 15, false, true};

// Nearest code by looking at the two neighbours; a tie goes to the even one.
uint32_t nearest(const Format &format, float x) {
  const uint32_t sign = std::signbit(x) ? format.sign_bit() : 0;
  const double magnitude = std::fabs(double(x));
  uint32_t below = 0, above = format.largest() + 1;  // above: infinity, or what would be the next number
  while (above - below > 1) {
    const uint32_t middle = (below + above) / 2;
    (format.value(middle) <= magnitude ? below : above) = middle;
  }
  if (below == format.largest()) {
    const double step = format.value(below) - format.value(below - 1);
    const bool up = magnitude >= format.value(below) + step / 2;
    return sign | (up && !format.saturates ? above : below);
  }
  const double to_below = magnitude - format.value(below), to_above = format.value(above) - magnitude;
  const bool up = to_above < to_below || (to_above == to_below && (above & 1) == 0);
  return sign | (up ? above : below);
}

bool same_float(float got, double want) {
  if (std::isnan(want)) return std::isnan(got);
  return double(got) == want && std::signbit(got) == std::signbit(want);
}

template <typename Widen>
void check_widen(const Format &format, Widen &&widen) {
  for (uint32_t code = 0; code < 1u << format.bits; ++code) {
    CHECK_THAT(same_float(widen(code), format.value(code)), "%s code 0x%x widens to %g, must be %g", format.name, code,
               double(widen(code)), format.value(code));
  }
}

template <typename Narrow>
void check_one(const Format &format, Narrow &&narrow, float x) {
  if (std::isnan(x)) {
    CHECK_THAT(std::isnan(format.value(narrow(x))), "NaN becomes %s code 0x%x", format.name, unsigned(narrow(x)));
    return;
  }
  CHECK_THAT(narrow(x) == nearest(format, x), "%.9g (0x%08x) becomes %s code 0x%x, must be 0x%x", double(x),
             bits_from_float(x), format.name, unsigned(narrow(x)), unsigned(nearest(format, x)));
}

// Every value of the format, every middle between two, the fp32 neighbours of both, and numbers from anywhere.
template <typename Narrow>
void check_narrow(const Format &format, Narrow &&narrow) {
  for (uint32_t code = 0; code < 1u << format.bits; ++code) {
    const double value = format.value(code);
    if (!std::isfinite(value)) continue;
    const double next = format.value(code + 1);
    for (double x : {value, (value + next) / 2}) {
      if (!std::isfinite(x)) x = value;
      const float near = float(x);
      check_one(format, narrow, near);
      check_one(format, narrow, std::nextafter(near, 2 * near));
      check_one(format, narrow, std::nextafter(near, 0.0f));
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (float x : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN(), 3.4e38f, -3.4e38f, 1e-45f, 65519.99f,
                  65520.0f, 464.0f, 480.0f, 61440.0f, 0.0f, -0.0f}) {
    check_one(format, narrow, x);
  }
  conformance::Random random(1);
  for (int i = 0; i < 300000; ++i) check_one(format, narrow, float_from_bits(uint32_t(random.bits() >> 32)));
}

#if defined(__x86_64__)
// The processor's own fp16 conversions, where it has them; the library's kernels use them.
__attribute__((target("f16c"))) float hardware_widen(uint16_t code) { return _cvtsh_ss(code); }
__attribute__((target("f16c"))) uint16_t hardware_narrow(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }

void check_hardware() {
  for (uint32_t code = 0; code < 65536; ++code) {
    const uint16_t h = uint16_t(code);
    CHECK_THAT(bits_from_float(hardware_widen(h)) == bits_from_float(float_from_fp16(h)), "fp16 0x%04x", code);
    const float x = float_from_fp16(h);
    for (uint32_t offset : {0u, 1u, 0xFFFu, 0x1000u, 0x1001u, 0x1FFFu}) {
      const float near = float_from_bits(bits_from_float(x) + offset);
      CHECK_THAT(hardware_narrow(near) == fp16_from_float(near), "0x%08x becomes 0x%04x, the processor says 0x%04x",
                 bits_from_float(near), fp16_from_float(near), hardware_narrow(near));
    }
  }
}
#endif

}  // namespace

int main() {
  unit::run("widen fp16", [] { check_widen(kFp16, [](uint32_t c) { return float_from_fp16(uint16_t(c)); }); });
  unit::run("widen bf16", [] { check_widen(kBf16, [](uint32_t c) { return float_from_bf16(uint16_t(c)); }); });
  unit::run("decode e4m3fn",
            [] { check_widen(kE4M3FN, [](uint32_t c) { return fp8::decode<fp8::E4M3FN>(uint8_t(c)); }); });
  unit::run("decode e5m2", [] { check_widen(kE5M2, [](uint32_t c) { return fp8::decode<fp8::E5M2>(uint8_t(c)); }); });
  unit::run("narrow fp16", [] { check_narrow(kFp16, [](float x) { return uint32_t(fp16_from_float(x)); }); });
  unit::run("narrow bf16", [] { check_narrow(kBf16, [](float x) { return uint32_t(bf16_from_float(x)); }); });
  unit::run("encode e4m3fn",
            [] { check_narrow(kE4M3FN, [](float x) { return uint32_t(fp8::encode<fp8::E4M3FN>(x)); }); });
  unit::run("encode e5m2", [] { check_narrow(kE5M2, [](float x) { return uint32_t(fp8::encode<fp8::E5M2>(x)); }); });
#if defined(__x86_64__)
  if (bnb::cpu::detect_features() & bnb::cpu::kF16C) {
    unit::run("fp16 as the processor does it", check_hardware);
  } else {
    unit::skip("fp16 as the processor does it", "this CPU has no F16C");
  }
#endif
  return unit::summary();
}
