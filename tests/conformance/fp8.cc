// SPDX-License-Identifier: MIT
// cquantize_fp8 and cdequantize_fp8.
#include "formats/fp8.h"

#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Format {
  bnb_quant_type quant_type;
  const char *name;
  DLDataType dtype;
  float (*decode)(uint8_t code);
  uint8_t max_code;
};
const Format kFormats[] = {{BNB_FP8_E4M3FN,
                            "e4m3fn",
                            {kDLFloat8_e4m3fn, 8, 1},
                            bnb::formats::fp8::decode<bnb::formats::fp8::E4M3FN>,
                            bnb::formats::fp8::E4M3FN::kMaxCode},
                           {BNB_FP8_E5M2,
                            "e5m2",
                            {kDLFloat8_e5m2, 8, 1},
                            bnb::formats::fp8::decode<bnb::formats::fp8::E5M2>,
                            bnb::formats::fp8::E5M2::kMaxCode}};

// Halfway between neighbours.
Thresholds thresholds_of(const Format &format) {
  Thresholds thresholds;
  for (uint8_t code = 0; code < format.max_code; ++code) {
    const float middle = (format.decode(code) + format.decode(uint8_t(code + 1))) * 0.5f;
    thresholds.at.push_back(middle);
    thresholds.at.push_back(-middle);
  }
  thresholds.top = format.decode(format.max_code);
  return thresholds;
}

Call quantize(const Format &format, DLDataType dtype, Size size, Bytes content, DLDataType out_dtype = kU8) {
  Call call;
  const int A = call.input("A", dtype, {size.n}, std::move(content));
  const int out = call.output("out", out_dtype, {size.n});
  const int scale = call.output("scale", kF32, {size.blocks()});
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cquantize_fp8(t[A], type, size.blocksize, t[out], t[scale], nullptr);
  };
  return call;
}

Call dequantize(const Format &format, DLDataType dtype, Size size, Bytes codes, const std::vector<float> &scale_values,
                DLDataType in_dtype = kU8) {
  Call call;
  const int A = call.input("A", in_dtype, {size.n}, std::move(codes));
  const int scale = call.input("scale", kF32, {size.blocks()}, bytes_of(scale_values));
  const int out = call.output("out", dtype, {size.n}, Nan::kAny);
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cdequantize_fp8(t[A], t[scale], type, size.blocksize, t[out], nullptr);
  };
  return call;
}

std::string name(const char *op, const Format &format, DLDataType dtype, const std::string &rest) {
  return std::string("fp8/") + op + "/" + format.name + "/" + name_of(dtype) + "/" + rest;
}

void quantize_cases(Suite &suite, const Format &format, DLDataType dtype) {
  const Thresholds thresholds = thresholds_of(format);
  const auto check = [&](const std::string &rest, Size size, const std::function<Bytes(Random &)> &content) {
    suite.check(name("quantize", format, dtype, rest),
                [&](Random &random) { return quantize(format, dtype, size, content(random)); });
  };
  const auto check_fill = [&](Size size, Fill fill) {
    check(name_of(size) + "/" + name_of(fill), size,
          [&](Random &random) { return filled(fill, dtype, size.n, size.blocksize, thresholds, random); });
  };
  for (Size size : edge_sizes(1, suite.quick())) check_fill(size, Fill::kMixed);
  for (Size size : large_sizes(1, suite.quick())) check_fill(size, Fill::kMixed);
  for (Size size : fill_sizes(suite.quick())) {
    for (Fill fill : kAllFills) check_fill(size, fill);
  }
  check_fill({20000, 20000}, Fill::kTies);
  suite.check(name("quantize", format, dtype, "float8_out"), [&](Random &random) {
    return quantize(format, dtype, {999, 64}, filled(Fill::kNormal, dtype, 999, 64, thresholds, random), format.dtype);
  });
  if (size_of(dtype) != 2) return;
  for (float partner : {thresholds.top, 1.0f, 65504.0f, 0x1p-14f}) {
    check("all_inputs/beside_" + std::to_string(partner), {2 * 65536, 2},
          [&](Random &) { return all_16bit_beside(dtype, partner); });
  }
  const int64_t finite = is(dtype, kF16) ? 2 * 0x7C00 : 2 * 0x7F80;
  check("all_inputs/shuffled", {finite, 64}, [&](Random &random) { return all_16bit(dtype, &random); });
}

void dequantize_cases(Suite &suite, const Format &format, DLDataType dtype) {
  const auto check = [&](const std::string &rest, Size size, DLDataType in_dtype) {
    suite.check(name("dequantize", format, dtype, rest), [&](Random &random) {
      return dequantize(format, dtype, size, random_bytes(size.n, random), scales(size.blocks(), random), in_dtype);
    });
  };
  for (Size size : edge_sizes(1, suite.quick())) check(name_of(size), size, kU8);
  for (Size size : large_sizes(1, suite.quick())) check(name_of(size), size, kU8);
  check("float8_in", {999, 64}, format.dtype);
  suite.check(name("dequantize", format, dtype, "all_codes"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 16 : 512;
    return dequantize(format, dtype, {256 * blocks, 256}, all_bytes(blocks), scales(blocks, random));
  });
  suite.check(name("dequantize", format, dtype, "any_scale"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 500 : 10000;
    return dequantize(format, dtype, {32 * blocks, 32}, random_bytes(32 * blocks, random), any_floats(blocks, random));
  });
}

}  // namespace

CONFORMANCE(fp8) {
  for (const Format &format : kFormats) {
    for (DLDataType dtype : kFloats) {
      quantize_cases(suite, format, dtype);
      dequantize_cases(suite, format, dtype);
      const Size size{suite.bench_elements(), 128};
      const double bytes = double(size.n) * double(size_of(dtype) + 1) + 4.0 * double(size.blocks());
      suite.bench(name("quantize", format, dtype, "bs128"), bytes, [&](Random &random) {
        return quantize(format, dtype, size, filled(Fill::kNormal, dtype, size.n, 128, {}, random));
      });
      suite.bench(name("dequantize", format, dtype, "bs128"), bytes, [&](Random &random) {
        return dequantize(format, dtype, size, random_bytes(size.n, random),
                          std::vector<float>(size_t(size.blocks()), 1.0f));
      });
    }
  }
}
