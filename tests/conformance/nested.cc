// SPDX-License-Identifier: MIT
// cquantize_nested and cdequantize_nested.
#include "nested.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

Call quantize(Size size, Bytes content, const std::vector<float> &code_values) {
  Call call;
  const int absmax = call.input("absmax", kF32, {size.n}, std::move(content));
  const int code = call.input("code", kF32, {256}, bytes_of(code_values));
  const int out = call.output("out", kU8, {size.n});
  const int nested_absmax = call.output("nested_absmax", kF32, {size.blocks()});
  const int offset = call.output("offset", kF32, {});
  call.invoke = [=](DLTensor *const *t) {
    return cquantize_nested(t[absmax], t[code], size.blocksize, t[out], t[nested_absmax], t[offset], nullptr);
  };
  return call;
}

Call dequantize(Size size, Random &random) {
  Call call;
  const NestedInputs nested = add_nested(call, "A", size.n, size.blocksize, random);
  const int out = call.output("out", kF32, {size.n}, Nan::kAny);
  call.invoke = [=](DLTensor *const *t) {
    const bnb_nested description = nested.describe(t);
    return cdequantize_nested(t[nested.codes], &description, t[out], nullptr);
  };
  return call;
}

// Scales as quantizers make them: positive, of one order of magnitude.
Bytes absmax_like(int64_t n, Random &random) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = 0.1f + 0.05f * std::fabs(random.normal());
  return bytes_of(values);
}

}  // namespace

CONFORMANCE(nested) {
  const auto check = [&](Size size, const std::string &rest, Code code, const std::function<Bytes(Random &)> &content) {
    suite.check("nested/quantize/" + name_of(size) + "/" + rest,
                [&](Random &random) { return quantize(size, content(random), values_of(code, random)); });
  };
  std::vector<Size> sizes = edge_sizes(1, suite.quick());
  for (Size size : large_sizes(1, suite.quick())) sizes.push_back(size);
  for (Size size : sizes) {
    check(size, "absmax", Code::kDynamicSigned, [&](Random &random) { return absmax_like(size.n, random); });
    suite.check("nested/dequantize/" + name_of(size), [&](Random &random) { return dequantize(size, random); });
  }
  for (Size size : fill_sizes(suite.quick())) {
    for (Fill fill : kAllFills) {
      check(size, name_of(fill), Code::kDynamicSigned,
            [&](Random &random) { return filled(fill, kF32, size.n, size.blocksize, {}, random); });
    }
    for (Code code : kAllCodes) {
      check(size, name_of(code), code, [&](Random &random) { return absmax_like(size.n, random); });
    }
  }
  const Size size{suite.bench_elements() / 64, 256};
  const double bytes = 5.0 * double(size.n);
  suite.bench("nested/quantize", 2 * bytes, [&](Random &random) {  // the mean needs a pass of its own
    return quantize(size, absmax_like(size.n, random), values_of(Code::kDynamicSigned, random));
  });
  suite.bench("nested/dequantize", bytes, [&](Random &random) { return dequantize(size, random); });
}
