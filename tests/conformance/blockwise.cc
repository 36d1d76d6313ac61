// SPDX-License-Identifier: MIT
// cquantize_blockwise and cdequantize_blockwise.
#include "codes.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

Call quantize(const std::vector<float> &code_values, DLDataType dtype, Size size, Bytes content) {
  Call call;
  const int A = call.input("A", dtype, {size.n}, std::move(content));
  const int code = call.input("code", kF32, {256}, bytes_of(code_values));
  const int out = call.output("out", kU8, {size.n});
  const int absmax = call.output("absmax", kF32, {size.blocks()});
  call.invoke = [=](DLTensor *const *t) {
    return cquantize_blockwise(t[A], t[code], size.blocksize, t[out], t[absmax], nullptr);
  };
  return call;
}

Call dequantize(const std::vector<float> &code_values, DLDataType dtype, Size size, Bytes codes,
                const std::vector<float> &absmax_values) {
  Call call;
  const int A = call.input("A", kU8, {size.n}, std::move(codes));
  const int absmax = call.input("absmax", kF32, {size.blocks()}, bytes_of(absmax_values));
  const int code = call.input("code", kF32, {256}, bytes_of(code_values));
  const int out = call.output("out", dtype, {size.n}, Nan::kAny);
  call.invoke = [=](DLTensor *const *t) {
    return cdequantize_blockwise(t[A], t[absmax], t[code], size.blocksize, t[out], nullptr);
  };
  return call;
}

std::string name(const char *op, const char *code, DLDataType dtype, const std::string &rest) {
  return std::string("blockwise/") + op + "/" + code + "/" + name_of(dtype) + "/" + rest;
}

void quantize_cases(Suite &suite, Code code, DLDataType dtype) {
  const auto check = [&](const std::string &rest, Size size,
                         const std::function<Bytes(const Thresholds &, Random &)> &content) {
    suite.check(name("quantize", name_of(code), dtype, rest), [&](Random &random) {
      const std::vector<float> values = values_of(code, random);
      return quantize(values, dtype, size, content(thresholds_of(values), random));
    });
  };
  const auto check_fill = [&](Size size, Fill fill) {
    check(name_of(size) + "/" + name_of(fill), size, [&](const Thresholds &thresholds, Random &random) {
      return filled(fill, dtype, size.n, size.blocksize, thresholds, random);
    });
  };
  // The sizes meet the code in one place only: all of them with one code, some with all codes.
  if (code == Code::kDynamicSigned || code == Code::kDense) {
    for (Size size : edge_sizes(1, suite.quick())) check_fill(size, Fill::kMixed);
    for (Size size : large_sizes(1, suite.quick())) check_fill(size, Fill::kMixed);
  }
  for (Size size : fill_sizes(suite.quick())) {
    for (Fill fill : kAllFills) check_fill(size, fill);
  }
  check_fill({20000, 20000}, Fill::kTies);
  if (size_of(dtype) != 2) return;
  for (float partner : {1.0f, 0.75f, 65504.0f, 0x1p-14f}) {
    check("all_inputs/beside_" + std::to_string(partner), {2 * 65536, 2},
          [&](const Thresholds &, Random &) { return all_16bit_beside(dtype, partner); });
  }
  const int64_t finite = is(dtype, kF16) ? 2 * 0x7C00 : 2 * 0x7F80;
  check("all_inputs/shuffled", {finite, 64},
        [&](const Thresholds &, Random &random) { return all_16bit(dtype, &random); });
}

void dequantize_cases(Suite &suite, Code code, DLDataType dtype) {
  const auto check = [&](Size size) {
    suite.check(name("dequantize", name_of(code), dtype, name_of(size)), [&](Random &random) {
      const std::vector<float> values = values_of(code, random);
      return dequantize(values, dtype, size, random_bytes(size.n, random), scales(size.blocks(), random));
    });
  };
  if (code == Code::kDynamicSigned) {
    for (Size size : edge_sizes(1, suite.quick())) check(size);
    for (Size size : large_sizes(1, suite.quick())) check(size);
  }
  suite.check(name("dequantize", name_of(code), dtype, "all_codes"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 16 : 256;
    const std::vector<float> values = values_of(code, random);
    return dequantize(values, dtype, {256 * blocks, 256}, all_bytes(blocks), scales(blocks, random));
  });
}

// A dequantizer takes any code: unsorted, NaN, infinite. Products then round to 16 bits in every way there is.
void dequantize_any_code(Suite &suite, DLDataType dtype) {
  for (const char *what : {"any_bits", "halfway"}) {
    suite.check(name("dequantize", what, dtype, "bs64"), [&](Random &random) {
      std::vector<float> values = any_floats(256, random);
      const int64_t blocks = suite.quick() ? 64 : 2000;
      std::vector<float> absmax(size_t(blocks), 1.0f);
      if (what[0] == 'h') {  // between two neighbours of the output dtype, or one fp32 ulp beside the middle
        const int dropped = 23 - corners_of(dtype).mantissa_bits;
        for (float &value : values) {
          uint32_t bits = bnb::formats::bits_from_float(std::ldexp(random.normal(), int(random.between(-18, 12))));
          if (dropped) bits = (bits & ~((1u << dropped) - 1)) + (1u << (dropped - 1)) + uint32_t(random.between(-1, 1));
          value = bnb::formats::float_from_bits(bits);
        }
        for (float &scale : absmax) scale = std::ldexp(1.0f, int(random.between(-10, 4)));
      }
      return dequantize(values, dtype, {64 * blocks, 64}, random_bytes(64 * blocks, random), absmax);
    });
  }
}

}  // namespace

CONFORMANCE(blockwise) {
  for (DLDataType dtype : kFloats) {
    for (Code code : kAllCodes) {
      if (suite.quick() && code != Code::kDynamicSigned && code != Code::kDense && code != Code::kBeyondOne) continue;
      quantize_cases(suite, code, dtype);
      dequantize_cases(suite, code, dtype);
    }
    dequantize_any_code(suite, dtype);
    const Size size{suite.bench_elements(), 256};
    const double bytes = double(size.n) * double(size_of(dtype) + 1) + 4.0 * double(size.blocks());
    for (Code code : {Code::kDynamicSigned, Code::kDense}) {
      suite.bench(name("quantize", name_of(code), dtype, "bs256"), bytes, [&](Random &random) {
        return quantize(values_of(code, random), dtype, size, filled(Fill::kNormal, dtype, size.n, 256, {}, random));
      });
    }
    suite.bench(name("dequantize", "dynamic", dtype, "bs256"), bytes, [&](Random &random) {
      return dequantize(values_of(Code::kDynamicSigned, random), dtype, size, random_bytes(size.n, random),
                        std::vector<float>(size_t(size.blocks()), 1.0f));
    });
  }
}
