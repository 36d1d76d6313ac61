// SPDX-License-Identifier: MIT
// What cases of MX and NVFP4 know of the formats.
#ifndef TESTS_CONFORMANCE_MX_H_
#define TESTS_CONFORMANCE_MX_H_

#include "call.h"
#include "formats/mx.h"

namespace conformance {

struct MxFormat {
  bnb_quant_type quant_type;
  const char *name;
  int64_t blocksize, codes_a_byte;
  DLDataType code_dtype, scale_dtype;  // beside uint8
  uint8_t max_code;
  float (*decode)(uint8_t code);
  float (*decode_scale)(uint8_t code);
};

constexpr DLDataType kE4M3FN{kDLFloat8_e4m3fn, 8, 1}, kE5M2{kDLFloat8_e5m2, 8, 1}, kE8M0{kDLFloat8_e8m0fnu, 8, 1};
constexpr DLDataType kE2M1x2{kDLFloat4_e2m1fn, 4, 2};

constexpr MxFormat kMxFormats[] = {
    {BNB_MXFP4, "mxfp4", 32, 2, kE2M1x2, kE8M0, 7, bnb::formats::e2m1::decode, bnb::formats::e8m0::decode},
    {BNB_MXFP8_E4M3FN, "mxfp8_e4m3fn", 32, 1, kE4M3FN, kE8M0, 0x7E,
     bnb::formats::fp8::decode<bnb::formats::fp8::E4M3FN>, bnb::formats::e8m0::decode},
    {BNB_MXFP8_E5M2, "mxfp8_e5m2", 32, 1, kE5M2, kE8M0, 0x7B, bnb::formats::fp8::decode<bnb::formats::fp8::E5M2>,
     bnb::formats::e8m0::decode},
    {BNB_NVFP4, "nvfp4", 16, 2, kE2M1x2, kE4M3FN, 7, bnb::formats::e2m1::decode,
     bnb::formats::fp8::decode<bnb::formats::fp8::E4M3FN>},
};

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_MX_H_
