// SPDX-License-Identifier: MIT
// The cases of product.h.
#include "product.h"

#include <cmath>
#include <cstdlib>
#include <limits>

#include "formats/fp4.h"
#include "formats/fp8.h"
#include "formats/nf4.h"
#include "mx.h"
#include "nested.h"

namespace conformance {
namespace {

struct Format {
  std::string name;  // of cases, with the family's
  DLDataType dtype;  // that codes may have beside uint8
  int64_t codes_per_byte;
  float largest;     // value
  float (*decode)(uint8_t code);
  const MxFormat *mx = nullptr;  // which has the first element of a byte in its low nibble, and scales of one byte
};

Format mx_format(const MxFormat &mx) {
  return {std::string("gemm_mx/") + mx.name + "/", mx.code_dtype, mx.codes_a_byte, mx.decode(mx.max_code), mx.decode, &mx};
}

const Format &format_of(const ProductCase &c) {
  using namespace bnb::formats;
  static const Format kNf4{"gemm_4bit/nf4/", kU8, 2, 1.0f, nf4::decode}, kFp4{"gemm_4bit/fp4/", kU8, 2, 1.0f, fp4::decode};
  static const Format kE4M3FN{"gemm_fp8/e4m3fn/", {kDLFloat8_e4m3fn, 8, 1}, 1, fp8::E4M3FN::max_finite(), fp8::decode<fp8::E4M3FN>};
  static const Format kE5M2{"gemm_fp8/e5m2/", {kDLFloat8_e5m2, 8, 1}, 1, fp8::E5M2::max_finite(), fp8::decode<fp8::E5M2>};
  static const Format kMx[] = {mx_format(kMxFormats[0]), mx_format(kMxFormats[1]), mx_format(kMxFormats[2]), mx_format(kMxFormats[3])};
  for (const Format &format : kMx) {
    if (format.mx->quant_type == c.quant_type) return format;
  }
  switch (c.quant_type) {
    case BNB_NF4: return kNf4;
    case BNB_FP4: return kFp4;
    case BNB_FP8_E4M3FN: return kE4M3FN;
    default: return kE5M2;
  }
}

std::string describe(const ProductCase &c) {
  std::string name = format_of(c).name + name_of(c.dtype) + "/m" + std::to_string(c.m) + "_n" + std::to_string(c.n) + "_k" +
                     std::to_string(c.k) + "/bs" + std::to_string(c.blocksize);
  if (c.bias != Bias::kNone) name += c.bias == Bias::kSame ? "/bias" : "/bias_fp32";
  if (c.nested_blocksize) name += "/nested" + std::to_string(c.nested_blocksize);
  if (c.a_gap || c.out_gap) name += "/strided";
  if (c.special != Special::kNo) name += c.special == Special::kTiny ? "/tiny" : "/not_finite";
  return name;
}

// The inputs of a case as numbers, and its call.
struct Product {
  ProductCase c;
  std::vector<float> a, bias, absmax;
  Bytes codes;
  Call call;
  int out = 0;

  float weight(int64_t i) const {
    const Format &format = format_of(c);
    const uint8_t byte = codes[size_t(i / format.codes_per_byte)];
    const bool low = (i % 2 == 0) == (format.mx != nullptr);
    const uint8_t code = format.codes_per_byte == 1 ? byte : low ? byte & 15 : byte >> 4;
    return format.decode(code) * absmax[size_t(i / c.blocksize)];
  }
};

std::vector<float> rounded(DLDataType dtype, std::vector<float> values) {
  const Bytes bytes = narrowed(dtype, values);
  for (size_t i = 0; i < values.size(); ++i) values[i] = value_of(dtype, bytes.data() + int64_t(i) * size_of(dtype));
  return values;
}

// The wider matrix that `view` is the first columns of.
DLTensor first_columns(const DLTensor &wide, int64_t (&shape)[2], int64_t (&strides)[2], int64_t columns) {
  DLTensor view = wide;
  shape[0] = wide.shape[0];
  shape[1] = columns;
  strides[0] = wide.shape[1];
  strides[1] = 1;
  view.shape = shape;
  view.strides = strides;
  return view;
}

// The code of a scale of MX or NVFP4.
uint8_t draw_scale_code(const ProductCase &c, const MxFormat &format, Random &random) {
  const bool power = format.quant_type != BNB_NVFP4;
  if (c.special == Special::kNotFinite && random.one_in(7)) return power ? 0xFF : 0x7F;
  if (!power) return uint8_t(random.between(0, 0x7E));
  return uint8_t(c.special == Special::kTiny ? random.between(0, 4) : random.between(115, 130));
}

// Scales, and for NVFP4 that of the tensor or none, whose index is returned.
int add_mx_scales(Product &p, NestedInputs *nested, Random &random) {
  const ProductCase &c = p.c;
  const MxFormat &format = *format_of(c).mx;
  const int64_t per_row = c.k / c.blocksize;
  Bytes codes;
  for (int64_t i = 0; i < c.n * per_row; ++i) codes.push_back(draw_scale_code(c, format, random));
  const bool two_level = format.quant_type == BNB_NVFP4 && (c.special == Special::kTiny || !random.one_in(3));
  const float of_tensor = !two_level ? 1.0f : c.special == Special::kTiny ? 0x1p-139f : 0.01f + 0.1f * float(random.unit());
  for (uint8_t code : codes) p.absmax.push_back(format.decode_scale(code) * of_tensor);
  nested->codes = p.call.input("scale", random.one_in(2) ? kU8 : format.scale_dtype, {c.n, per_row}, std::move(codes));
  return two_level ? p.call.input("tensor_scale", kF32, {1}, bytes_of(std::vector<float>{of_tensor})) : -1;
}

void add_scales(Product &p, NestedInputs *nested, Random &random) {
  const ProductCase &c = p.c;
  const int64_t blocks = ceil_div(c.n * c.k, c.blocksize);
  if (c.nested_blocksize) {
    *nested = add_nested(p.call, "absmax", blocks, c.nested_blocksize, random);
    const auto floats = [&](int tensor, int64_t i) { return value_of(kF32, p.call.tensors[size_t(tensor)].content.data() + 4 * i); };
    for (int64_t i = 0; i < blocks; ++i) {
      const float product = floats(nested->code, p.call.tensors[size_t(nested->codes)].content[size_t(i)]) *
                            floats(nested->absmax, i / c.nested_blocksize);
      p.absmax.push_back(product + floats(nested->offset, 0));
    }
    return;
  }
  for (int64_t i = 0; i < blocks; ++i) {
    const float about_one = std::fabs(random.normal()) + 0.01f;
    float scale = c.special == Special::kTiny ? about_one * 1e-38f : about_one / format_of(c).largest;  // subnormal ones with large codes
    if (c.special == Special::kNotFinite && random.one_in(7)) {
      scale = random.one_in(2) ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    }
    p.absmax.push_back(scale);
  }
  nested->codes = p.call.input("absmax", kF32, {blocks}, bytes_of(p.absmax));
}

// Random codes; of 8-bit ones, only a case for such has infinities and NaN.
Bytes make_codes(const ProductCase &c, Random &random) {
  const Format &format = format_of(c);
  Bytes codes = random_bytes(ceil_div(c.n * c.k, format.codes_per_byte), random);
  for (uint8_t &code : codes) {
    const bool keep = format.codes_per_byte == 2 || (c.special == Special::kNotFinite && random.one_in(c.k * 3));
    if (!keep && !std::isfinite(format.decode(code))) code &= 0x83;
  }
  return codes;
}

Product make(const ProductCase &c, Random &random) {
  Product p;
  p.c = c;
  for (int64_t i = 0; i < c.m * c.k; ++i) {
    float value = random.normal() * (random.one_in(50) ? 30.0f : 1.0f);
    if (c.special == Special::kNotFinite && random.one_in(c.k * 3)) value = std::numeric_limits<float>::infinity();
    p.a.push_back(value);
  }
  p.a = rounded(c.dtype, p.a);
  p.codes = make_codes(c, random);
  const DLDataType bias_dtype = c.bias == Bias::kSame ? c.dtype : kF32;
  for (int64_t i = 0; i < c.n && c.bias != Bias::kNone; ++i) p.bias.push_back(random.normal());
  p.bias = rounded(bias_dtype, p.bias);

  const int A = p.call.input("A", c.dtype, {c.m, c.k}, narrowed(c.dtype, p.a), c.a_gap ? c.k + c.a_gap : 0);
  const bool mx = format_of(c).mx, four_bits = format_of(c).codes_per_byte == 2;
  const int64_t columns = c.k / format_of(c).codes_per_byte;
  const int B = four_bits && !mx ? p.call.input("B", kU8, {int64_t(p.codes.size()), 1}, p.codes)
                                 : p.call.input("B", random.one_in(2) ? kU8 : format_of(c).dtype, {c.n, columns}, p.codes);
  NestedInputs nested{};
  int of_tensor = -1;
  if (mx) {
    of_tensor = add_mx_scales(p, &nested, random);
  } else {
    add_scales(p, &nested, random);
  }
  const int bias = c.bias == Bias::kNone ? -1 : p.call.input("bias", bias_dtype, {c.n}, narrowed(bias_dtype, p.bias));
  p.out = p.call.output("out", c.dtype, {c.m, c.n + c.out_gap}, Nan::kAny);
  p.call.invoke = [=, out = p.out](DLTensor *const *t) {
    int64_t shape[2], strides[2];
    DLTensor view = first_columns(*t[out], shape, strides, c.n);
    DLTensor *const bias_tensor = bias < 0 ? nullptr : t[bias];
    if (mx) {
      return cgemm_mx(t[A], t[B], t[nested.codes], of_tensor < 0 ? nullptr : t[of_tensor], c.quant_type, bias_tensor, &view, nullptr);
    }
    if (!four_bits) {
      return cgemm_fp8(t[A], t[B], t[nested.codes], c.quant_type, c.blocksize, bias_tensor, &view, nullptr);
    }
    const bnb_nested description = c.nested_blocksize ? nested.describe(t) : bnb_nested{};
    return cgemm_4bit(t[A], t[B], t[nested.codes], c.nested_blocksize ? &description : nullptr, c.quant_type, c.blocksize,
                      bias_tensor, &view, nullptr);
  };
  return p;
}

// What bnb.h says of the rounding of weights, for the instruction sets and devices of docs/kernels.md that multiply in such types.
double weight_error(const Target &target, const ProductCase &c) {
  const bool gpu = target.device.device_type != kDLCPU;
  const bool bf16_products = target.name == "cpu/avx512_bf16" || target.name == "cpu/avx512_amx";
  if (!(gpu || bf16_products) || is(c.dtype, kF32) || format_of(c).mx) return 0.0;
  return is(c.dtype, kBF16) ? 0x1p-8 : gpu ? 0x1p-11 : 0x1p-15;
}

// "" or the first output that is further from the product in float64 than bnb.h allows.
std::string beyond_bound(const Product &p, const Target &target, const Bytes &out) {
  const ProductCase &c = p.c;
  const double u = is(c.dtype, kF32) ? 0x1p-24 : is(c.dtype, kF16) ? 0x1p-11 : 0x1p-8;
  double largest_weight = 0.0;
  for (float scale : p.absmax) {
    largest_weight = std::fmax(largest_weight, std::fabs(double(scale)) * double(format_of(c).largest));
  }
  for (int64_t n = 0; n < c.n; ++n) {
    std::vector<double> w;
    for (int64_t k = 0; k < c.k; ++k) w.push_back(double(p.weight(n * c.k + k)));
    for (int64_t m = 0; m < c.m; ++m) {
      double want = p.bias.empty() ? 0.0 : double(p.bias[size_t(n)]), sum = std::fabs(want), tiny = 0.0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double a = double(p.a[size_t(m * c.k + k)]), product = a * w[size_t(k)];
        want += product;
        sum += std::fabs(product);
        tiny += 1.0 + std::fabs(a);
      }
      const double got = double(value_of(c.dtype, out.data() + (m * (c.n + c.out_gap) + n) * size_of(c.dtype)));
      if (!std::isfinite(want)) {
        if (std::isfinite(got)) return "out[" + std::to_string(m) + ", " + std::to_string(n) + "] must not be finite";
        continue;
      }
      const double bound = u * std::fabs(got) + (weight_error(target, c) + double(c.k + 8) * 0x1p-24) * sum +
                           0x1p-125 * tiny * (1.0 + largest_weight) + (is(c.dtype, kF16) ? 0x1p-25 : 0.0);
      const bool overflow = (std::isinf(got) && std::fabs(want) + bound >= double(corners_of(c.dtype).largest)) ||
                            (!std::isfinite(got) && sum >= 0x1p127);
      if (!overflow && !(std::fabs(got - want) <= bound)) {
        char text[160];
        std::snprintf(text, sizeof text, "out[%lld, %lld] is %.9g, must be %.9g within %.3g", (long long)m, (long long)n, got, want,
                      bound);
        return text;
      }
    }
  }
  return "";
}

// The columns between rows of out still hold the filler.
std::string gaps_written(const ProductCase &c, const Bytes &out, uint8_t filler) {
  const int64_t row = (c.n + c.out_gap) * size_of(c.dtype);
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t i = c.n * size_of(c.dtype); i < row; ++i) {
      if (out[size_t(m * row + i)] != filler) return "bytes between the rows of out were written";
    }
  }
  return "";
}

std::string test(const Product &p, const Target &target) {
  constexpr Placement kPlacements[] = {{"at the start of a page, 1 thread", false, 0, false, false, 1, 0xA5},
                                       {"at the end of a page, 2 threads", true, 0, false, true, 2, 0xA5},
                                       {"1 byte off, 5 threads", false, 1, true, false, 5, 0xA5}};
  std::vector<Bytes> first, again;
  for (const Placement &placement : kPlacements) {
    std::vector<Bytes> &results = first.empty() ? first : again;
    std::string problem = run(p.call, target, placement, &results);
    if (problem.empty() && &results == &first) problem = beyond_bound(p, target, first[size_t(p.out)]);
    if (problem.empty()) problem = gaps_written(p.c, results[size_t(p.out)], placement.filler);
    if (problem.empty() && &results == &again) problem = compare(p.call, again, first);
    if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
    if (!problem.empty()) return problem + "\n     buffers " + placement.name;
  }
  return "";
}

}  // namespace

void check_product(Suite &suite, const ProductCase &c) {
  suite.check_on_each(describe(c), [&](const Target &target, Random &random) { return test(make(c, random), target); });
}

void bench_product(Suite &suite, const ProductCase &c) {
  const double code_bytes = double(c.n * c.k) / double(format_of(c).codes_per_byte);
  const double scale_bytes = double(ceil_div(c.n * c.k, c.blocksize)) * (format_of(c).mx ? 1.0 : 4.0);
  suite.bench(describe(c), code_bytes + scale_bytes, [&](Random &random) { return make(c, random).call; });
}

}  // namespace conformance
