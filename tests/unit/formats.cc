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
#include "formats/nf4.h"

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

void check_dynamic_maps() {
  conformance::Random random(0);
  const std::vector<float> is_signed = conformance::values_of(conformance::Code::kDynamicSigned, random);
  const std::vector<float> is_unsigned = conformance::values_of(conformance::Code::kDynamicUnsigned, random);
  for (size_t i = 1; i < 256; ++i) CHECK(is_signed[i] > is_signed[i - 1] && is_unsigned[i] > is_unsigned[i - 1]);
  for (size_t k = 0; k < 127; ++k) CHECK(is_signed[126 - k] == -is_signed[128 + k]);
  CHECK(is_signed[127] == 0.0f && is_signed[255] == 1.0f && is_unsigned[0] == 0.0f && is_unsigned[255] == 1.0f);
}

}  // namespace

int main() {
  static_assert(BNB_FP4 == 1 && BNB_NF4 == 2, "the numbers that bitsandbytes' C functions give them");
  unit::run("nf4", check_nf4);
  unit::run("fp4", check_fp4);
  unit::run("e4m3fn", check_fp8<fp8::E4M3FN>);
  unit::run("e5m2", check_fp8<fp8::E5M2>);
  unit::run("dynamic maps", check_dynamic_maps);
  return unit::summary();
}
