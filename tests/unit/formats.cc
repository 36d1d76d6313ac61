// SPDX-License-Identifier: MIT
// The codebooks: thresholds are the fp32 midpoints of neighbours, tables ascend, every code is what encode gives for
// its value.
#include <bnb/bnb.h>

#include <cmath>

#include "check.h"
#include "conformance/codes.h"
#include "formats/dynamic_map.h"
#include "formats/fp4.h"
#include "formats/fp8.h"
#include "formats/mx.h"
#include "formats/nf4.h"
#include "formats/ternary.h"

using namespace bnb::formats;

namespace {

void check_nf4() {
  for (uint8_t code = 0; code < 16; ++code) {
    CHECK(nf4::encode(nf4::decode(code)) == code);
    if (code == 15) break;
    const float threshold = float_from_bits(nf4::kThresholdBits[code]);
    CHECK(nf4::decode(code) < nf4::decode(uint8_t(code + 1)));
    CHECK(threshold == (nf4::decode(code) + nf4::decode(uint8_t(code + 1))) * 0.5f);
    CHECK(nf4::encode(threshold) == code);
    CHECK(nf4::encode(std::nextafter(threshold, 2.0f)) == code + 1);
  }
  CHECK(nf4::decode(nf4::kZeroCode) == 0.0f && nf4::encode(0.0f) == nf4::kZeroCode &&
        nf4::encode(-0.0f) == nf4::kZeroCode);
  CHECK(nf4::decode(0) == -1.0f && nf4::decode(15) == 1.0f);
  CHECK(nf4::encode(NAN) == 0);
}

void check_fp4() {
  // The values of bitsandbytes' FP4 are multiples of 1/192.
  const double values[8] = {0, 1.0 / 192, 2.0 / 3, 1, 1.0 / 3, 0.5, 1.0 / 6, 0.25};
  for (uint8_t code = 0; code < 8; ++code) {
    const float value = fp4::decode(code), negative = fp4::decode(uint8_t(code + 8));
    CHECK(value == float(values[code]) && negative == -value && std::signbit(negative));
    CHECK(fp4::encode(value) == code);
    if (code != 0) CHECK(fp4::encode(negative) == code + 8);
  }
  for (int rank = 0; rank < 7; ++rank) {
    const uint8_t below = fp4::kMagnitudeCode[rank], above = fp4::kMagnitudeCode[rank + 1];
    const float threshold = float_from_bits(fp4::kThresholdBits[rank]);
    CHECK(threshold == (fp4::decode(below) + fp4::decode(above)) * 0.5f);
    CHECK(fp4::encode(threshold) == below && fp4::encode(-threshold) == below + 8);  // a tie goes towards zero
    CHECK(fp4::encode(std::nextafter(threshold, 2.0f)) == above);
    CHECK(fp4::encode(std::nextafter(-threshold, -2.0f)) == above + 8);
  }
  CHECK(fp4::encode(1e-6f) == 0 && fp4::encode(-1e-6f) == 8 && fp4::encode(-0.0f) == 0 &&
        fp4::encode(0.0f) == fp4::kZeroCode);
}

template <typename Format>
void check_fp8() {
  CHECK(fp8::decode<Format>(Format::kMaxCode) == Format::max_finite());
  CHECK(std::isnan(fp8::decode<Format>(Format::kNanCode)));
  for (int code = 0; code < 256; ++code) {
    const float value = fp8::decode<Format>(uint8_t(code));
    if (!std::isfinite(value)) continue;
    CHECK(fp8::encode<Format>(value) == code);
  }
}

void check_e2m1() {
  const float values[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  // From the specification's table of roundings: a tie goes to the even code.
  const struct {
    float x;
    uint8_t code;
  } ties[] = {{0.25f, 0}, {0.75f, 2}, {1.25f, 2}, {1.75f, 4}, {2.5f, 4}, {3.5f, 6}, {5.0f, 6}};
  for (uint8_t code = 0; code < 8; ++code) {
    CHECK(e2m1::decode(code) == values[code] && e2m1::decode(uint8_t(code + 8)) == -values[code]);
    CHECK(std::signbit(e2m1::decode(uint8_t(code + 8))));
    CHECK(e2m1::encode(values[code]) == code && e2m1::encode(-values[code]) == code + 8);
    CHECK(float_from_bf16(bf16_from_float(values[code])) == values[code]);
  }
  for (const auto &tie : ties) {
    CHECK(e2m1::encode(tie.x) == tie.code && e2m1::encode(-tie.x) == tie.code + 8);
    const uint8_t below = e2m1::encode(std::nextafter(tie.x, 0.0f)), above = e2m1::encode(std::nextafter(tie.x, 9.0f));
    CHECK(above == below + 1 && (tie.code == below || tie.code == above));
  }
  for (float x : {6.1f, 1e30f, INFINITY}) CHECK(e2m1::encode(x) == E2M1::kMaxCode && e2m1::encode(-x) == E2M1::kMaxCode + 8);
  CHECK(e2m1::encode(1e-30f) == 0 && e2m1::encode(-1e-30f) == 8 && e2m1::encode(NAN) == 0);
}

void check_e8m0() {
  for (int code = 0; code < 255; ++code) {
    CHECK(double(e8m0::decode(uint8_t(code))) == std::ldexp(1.0, code - 127));
    if (code < 254) CHECK(double(e8m0::reciprocal(uint8_t(code))) == std::ldexp(1.0, 127 - code));
  }
  CHECK(std::isnan(e8m0::decode(e8m0::kNanCode)));
}

// The rules as the specification and torchao state them, in float64, where logarithms of fp32 numbers are far from integers unless
// they are such.
template <typename Element>
int scale_by_logarithm(int rule, float absmax, int largest_exponent) {
  if (absmax == 0.0f) return 0;
  double exponent = 0.0;
  if (rule == mx::kFloor) exponent = std::floor(std::log2(double(absmax))) - largest_exponent;
  if (rule == mx::kCeil) exponent = std::ceil(std::log2(double(absmax))) - largest_exponent;
  if (rule == mx::kRceil) {
    const float quotient = absmax / Element::max_finite();
    exponent = quotient > 0.0f ? std::ceil(std::log2(double(quotient))) : -1000.0;
  }
  if (rule == mx::kEven) {
    const double unit = std::exp2(std::floor(std::log2(double(absmax)))), steps = double(1 << Element::kMantissaBits);
    const double rounded = std::floor(double(absmax) / unit * steps + 0.5) / steps * unit;
    exponent = std::floor(std::log2(rounded)) - largest_exponent;
  }
  return int(std::fmin(std::fmax(exponent, -127.0), 127.0)) + 127;
}

template <typename Element>
void check_scales(int largest_exponent) {
  CHECK(int(mx::largest_exponent<Element>()) == largest_exponent);
  conformance::Random random(1);
  for (int rule = 0; rule < 4; ++rule) {
    const auto check = [&](float absmax) {
      const int got = mx::scale_code<Element>(rule, absmax), want = scale_by_logarithm<Element>(rule, absmax, largest_exponent);
      CHECK_THAT(got == want, "rule %d, absmax %a: scale %d, must be %d", rule, double(absmax), got, want);
    };
    for (uint32_t exponent = 0; exponent < 255; ++exponent) {  // each octave: its ends, and around what rounds up
      for (uint32_t mantissa : {0u, 1u, 0x0FFFFFu, 0x100000u, 0x1FFFFFu, 0x200000u, 0x3FFFFFu, 0x400000u, 0x400001u, 0x5FFFFFu,
                                0x600000u, 0x600001u, 0x6FFFFFu, 0x700000u, 0x700001u, 0x77FFFFu, 0x780000u, 0x7FFFFFu}) {
        check(float_from_bits((exponent << 23) | mantissa));
      }
      for (int i = 0; i < 20; ++i) check(float_from_bits((exponent << 23) | (uint32_t(random.bits()) & 0x7FFFFFu)));
    }
  }
}

void check_mx_scales() {
  check_scales<E2M1>(2);
  check_scales<fp8::E4M3FN>(8);
  check_scales<fp8::E5M2>(15);
}

void check_nvfp4_scales() {
  CHECK(fp8::decode<fp8::E4M3FN>(nvfp4::kSmallestScale) == nvfp4::smallest_scale() && nvfp4::tensor_divisor() == 2688.0f);
  CHECK(nvfp4::scale_code(0.0f, 1.0f) == nvfp4::kSmallestScale && nvfp4::scale_code(1e30f, 1.0f) == fp8::E4M3FN::kMaxCode);
  CHECK(nvfp4::scale_code(6.0f, 1.0f) == fp8::encode<fp8::E4M3FN>(1.0f) && nvfp4::scale_code(6.0f, 0.5f) == fp8::encode<fp8::E4M3FN>(2.0f));
  CHECK(nvfp4::scale_code(2688.0f, 1.0f) == fp8::E4M3FN::kMaxCode);
}

void check_dynamic_maps() {
  conformance::Random random(0);
  const std::vector<float> is_signed = conformance::values_of(conformance::Code::kDynamicSigned, random);
  const std::vector<float> is_unsigned = conformance::values_of(conformance::Code::kDynamicUnsigned, random);
  for (size_t i = 1; i < 256; ++i) CHECK(is_signed[i] > is_signed[i - 1] && is_unsigned[i] > is_unsigned[i - 1]);
  for (size_t k = 0; k < 127; ++k) CHECK(is_signed[126 - k] == -is_signed[128 + k]);
  CHECK(is_signed[127] == 0.0f && is_signed[255] == 1.0f && is_unsigned[0] == 0.0f && is_unsigned[255] == 1.0f);
}

// Every weight of a block has a place of its own, where its code is found again.
template <typename Layout>
void check_places() {
  int used[ternary::TQ2::kCodeBytes][ternary::TQ1::kDigits] = {};
  for (int weight = 0; weight < ternary::kBlock; ++weight) {
    const ternary::Place place = Layout::place_of(weight);
    CHECK(place.byte >= 0 && place.byte < Layout::kCodeBytes && place.index >= 0 && place.index < ternary::TQ1::kDigits);
    CHECK(used[place.byte][place.index]++ == 0);
  }
}

void check_ternary() {
  check_places<ternary::TQ1>();
  check_places<ternary::TQ2>();
  for (int number = 0; number < 243; ++number) {
    for (int digit = 0; digit < ternary::TQ1::kDigits; ++digit) {
      CHECK(ternary::TQ1::code(ternary::TQ1::byte_of(number), digit) == number / ternary::TQ1::weight_of(digit) % 3);
    }
  }
  for (uint8_t code = 0; code < 4; ++code) {
    for (int index = 0; index < ternary::TwoBits::kCodes; ++index) {
      CHECK(ternary::TwoBits::code(ternary::TwoBits::bits(code, index), index) == code);
    }
  }
  const float mean = ternary::limit_of_absmean(), max = ternary::limit_of_absmax();
  CHECK(ternary::value(ternary::kZeroCode) == 0 && ternary::encode(NAN, mean) == ternary::kZeroCode);
  CHECK(ternary::encode(0.5f, mean) == 1 && ternary::encode(-0.5f, mean) == 1);
  CHECK(ternary::encode(0.5f, max) == 2 && ternary::encode(-0.5f, max) == 0);
  CHECK(ternary::encode(std::nextafter(0.5f, 1.0f), mean) == 2 && ternary::encode(std::nextafter(0.5f, 0.0f), max) == 1);
}

}  // namespace

int main() {
  static_assert(BNB_FP4 == 1 && BNB_NF4 == 2, "the numbers that bitsandbytes' C functions give them");
  unit::run("nf4", check_nf4);
  unit::run("fp4", check_fp4);
  unit::run("e4m3fn", check_fp8<fp8::E4M3FN>);
  unit::run("e5m2", check_fp8<fp8::E5M2>);
  unit::run("e2m1", check_e2m1);
  unit::run("e8m0", check_e8m0);
  unit::run("mx scales", check_mx_scales);
  unit::run("nvfp4 scales", check_nvfp4_scales);
  unit::run("ternary", check_ternary);
  unit::run("dynamic maps", check_dynamic_maps);
  return unit::summary();
}
