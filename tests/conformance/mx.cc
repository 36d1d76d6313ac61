// SPDX-License-Identifier: MIT
// cquantize_mx and cdequantize_mx.
#include "formats/mx.h"

#include "mx.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

constexpr bnb_mx_scale kRules[] = {BNB_MX_FLOOR, BNB_MX_CEIL, BNB_MX_EVEN, BNB_MX_RCEIL};
constexpr const char *kRuleNames[] = {"floor", "ceil", "even", "rceil"};

// Halfway between neighbours.
Thresholds thresholds_of(const MxFormat &format) {
  Thresholds thresholds;
  for (uint8_t code = 0; code < format.max_code; ++code) {
    const float middle = (format.decode(code) + format.decode(uint8_t(code + 1))) * 0.5f;
    thresholds.at.push_back(middle);
    thresholds.at.push_back(-middle);
  }
  thresholds.top = format.decode(format.max_code);
  return thresholds;
}

// How the scale of an NVFP4 tensor is asked for, and what codes and scales are stored as.
struct Way {
  bool tensor_scale = false, own_dtypes = false;
};

struct Shape {
  int64_t rows, cols;
  int64_t n() const { return rows * cols; }
};

Call quantize(const MxFormat &format, DLDataType dtype, Shape shape, bnb_mx_scale rule, Bytes content, Way way) {
  Call call;
  const int A = call.input("A", dtype, {shape.rows, shape.cols}, std::move(content));
  const int out =
      call.output("out", way.own_dtypes ? format.code_dtype : kU8, {shape.rows, shape.cols / format.codes_a_byte});
  const int scale =
      call.output("scale", way.own_dtypes ? format.scale_dtype : kU8, {shape.rows, shape.cols / format.blocksize});
  const int tensor_scale = way.tensor_scale ? call.output("tensor_scale", kF32, {1}) : -1;
  call.elements_per_item = format.codes_a_byte;
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cquantize_mx(t[A], type, rule, t[out], t[scale], tensor_scale < 0 ? nullptr : t[tensor_scale], nullptr);
  };
  return call;
}

Call dequantize(const MxFormat &format, DLDataType dtype, int64_t n, Bytes codes, Bytes scales,
                const float *tensor_scale, bool own_dtypes = false) {
  Call call;
  const int A = call.input("A", own_dtypes ? format.code_dtype : kU8, {n / format.codes_a_byte}, std::move(codes));
  const int scale =
      call.input("scale", own_dtypes ? format.scale_dtype : kU8, {n / format.blocksize}, std::move(scales));
  const int of_tensor =
      tensor_scale ? call.input("tensor_scale", kF32, {}, bytes_of(std::vector<float>{*tensor_scale})) : -1;
  const int out = call.output("out", dtype, {n}, Nan::kAny);
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cdequantize_mx(t[A], t[scale], of_tensor < 0 ? nullptr : t[of_tensor], type, t[out], nullptr);
  };
  return call;
}

std::string name(const char *op, const MxFormat &format, DLDataType dtype, const std::string &rest) {
  return std::string("mx/") + op + "/" + format.name + "/" + name_of(dtype) + "/" + rest;
}
std::string name_of(Shape shape) { return std::to_string(shape.rows) + "x" + std::to_string(shape.cols); }

// Around every edge: vectors, groups of four, stages of 4096 bytes, what is done together; rows of any number.
std::vector<Shape> shapes(int64_t blocksize, bool quick) {
  std::vector<Shape> list = {{0, blocksize}, {3, 0}};
  for (int64_t blocks : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33}) list.push_back({1, blocks * blocksize});
  for (int64_t rows : {3, 5, 7}) list.push_back({rows, 3 * blocksize});
  for (int64_t blocks : {127, 128, 129, 255, 256, 257, 300}) {
    if (!quick || blocks == 129) list.push_back({1, blocks * blocksize});
  }
  return list;
}

Shape large_shape(int64_t blocksize, bool quick) { return {quick ? 1001 : 7001, 7 * blocksize}; }

void quantize_cases(Suite &suite, const MxFormat &format, DLDataType dtype, bnb_mx_scale rule, Way way) {
  const Thresholds thresholds = thresholds_of(format);
  const std::string kind = format.quant_type == BNB_NVFP4 ? way.tensor_scale ? "two_level/" : "one_level/"
                                                          : std::string(kRuleNames[rule]) + "/";
  const auto check = [&](const std::string &rest, Shape shape, const std::function<Bytes(Random &)> &content) {
    suite.check(name("quantize", format, dtype, kind + rest),
                [&](Random &random) { return quantize(format, dtype, shape, rule, content(random), way); });
  };
  const auto check_fill = [&](Shape shape, Fill fill, int64_t fill_block) {
    check(name_of(shape) + "/" + name_of(fill) + std::to_string(fill_block), shape,
          [&](Random &random) { return filled(fill, dtype, shape.n(), fill_block, thresholds, random); });
  };
  for (Shape shape : shapes(format.blocksize, suite.quick())) check_fill(shape, Fill::kNormal, format.blocksize);
  for (Fill fill : kAllFills) check_fill({7, 9 * format.blocksize}, fill, format.blocksize);
  check_fill(large_shape(format.blocksize, suite.quick()), Fill::kNormal, format.blocksize);
  check_fill({61, 11 * format.blocksize}, Fill::kTies,
             61 * 11 * format.blocksize);  // ties with one scale for the tensor
  check_fill({5, 3 * format.blocksize}, Fill::kTiny, 15 * format.blocksize);
  check_fill({5, 3 * format.blocksize}, Fill::kZeros, 15 * format.blocksize);
  check_fill({5, 3 * format.blocksize}, Fill::kInfinities, 15 * format.blocksize);
  check_fill({5, 3 * format.blocksize}, Fill::kHuge, 15 * format.blocksize);
  if (size_of(dtype) != 2) return;
  const Shape pairs{2 * 65536 / (8 * format.blocksize), 8 * format.blocksize};
  for (float partner : {thresholds.top, 1.0f, 65504.0f, 0x1p-14f}) {
    check("all_inputs/beside_" + std::to_string(partner), pairs,
          [&](Random &) { return all_16bit_beside(dtype, partner); });
  }
}

void dequantize_cases(Suite &suite, const MxFormat &format, DLDataType dtype) {
  const float tensor_scales[] = {1.0f,
                                 0.37f,
                                 0.0f,
                                 0x1p-140f,
                                 0x1.8p120f,
                                 -2.5f,
                                 std::numeric_limits<float>::infinity(),
                                 std::numeric_limits<float>::quiet_NaN()};
  const bool two_level = format.quant_type == BNB_NVFP4;
  const auto check = [&](const std::string &rest, int64_t n, const float *tensor_scale, bool own_dtypes = false) {
    suite.check(name("dequantize", format, dtype, rest), [&](Random &random) {
      return dequantize(format, dtype, n, random_bytes(n / format.codes_a_byte, random),
                        random_bytes(n / format.blocksize, random), tensor_scale, own_dtypes);
    });
  };
  for (Shape shape : shapes(format.blocksize, suite.quick())) {
    check(name_of(shape), shape.n(), two_level && shape.cols % 3 ? tensor_scales + 1 : nullptr);
  }
  check("large", large_shape(format.blocksize, suite.quick()).n(), nullptr);
  check("own_dtypes", 33 * format.blocksize, nullptr, true);
  // Every byte of codes with every scale.
  const int64_t code_blocks = 256 * format.codes_a_byte / format.blocksize;
  for (size_t i = 0; i < std::size(tensor_scales); ++i) {
    if (i > 0 && !two_level) break;
    suite.check(name("dequantize", format, dtype, "all_codes/tensor_scale" + std::to_string(i)), [&](Random &) {
      Bytes scales;
      for (int code = 0; code < 256; ++code) scales.insert(scales.end(), size_t(code_blocks), uint8_t(code));
      return dequantize(format, dtype, 256 * 256 * format.codes_a_byte, all_bytes(256), std::move(scales),
                        two_level ? tensor_scales + i : nullptr);
    });
  }
}

void bench(Suite &suite, const MxFormat &format, DLDataType dtype) {
  const int64_t n = suite.bench_elements();
  const double bytes =
      double(n) * (double(size_of(dtype)) + 1.0 / double(format.codes_a_byte) + 1.0 / double(format.blocksize));
  const float one = 1.0f;
  suite.bench(name("quantize", format, dtype, ""), bytes, [&](Random &random) {
    const Way way{format.quant_type == BNB_NVFP4, false};
    return quantize(format, dtype, {n / 4096, 4096}, BNB_MX_FLOOR, filled(Fill::kNormal, dtype, n, 128, {}, random),
                    way);
  });
  suite.bench(name("dequantize", format, dtype, ""), bytes, [&](Random &random) {
    return dequantize(format, dtype, n, random_bytes(n / format.codes_a_byte, random),
                      Bytes(size_t(n / format.blocksize), uint8_t(0x78)),
                      format.quant_type == BNB_NVFP4 ? &one : nullptr);
  });
}

}  // namespace

CONFORMANCE(mx) {
  for (const MxFormat &format : kMxFormats) {
    for (DLDataType dtype : kFloats) {
      if (format.quant_type == BNB_NVFP4) {
        for (bool tensor_scale : {false, true})
          quantize_cases(suite, format, dtype, BNB_MX_FLOOR, {tensor_scale, false});
      } else {
        for (bnb_mx_scale rule : kRules) quantize_cases(suite, format, dtype, rule, {});
      }
      suite.check(name("quantize", format, dtype, "own_dtypes"), [&](Random &random) {
        const Bytes content = filled(Fill::kNormal, dtype, 33 * format.blocksize, 32, {}, random);
        return quantize(format, dtype, {11, 3 * format.blocksize}, BNB_MX_RCEIL, content, {false, true});
      });
      dequantize_cases(suite, format, dtype);
      bench(suite, format, dtype);
    }
  }
}
