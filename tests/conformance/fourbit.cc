// SPDX-License-Identifier: MIT
// cquantize_4bit and cdequantize_4bit.
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "nested.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Format {
  bnb_quant_type quant_type;
  const char *name;
  const uint32_t *threshold_bits;
  int count;
  bool signs;  // the thresholds are of magnitudes
};
constexpr Format kFormats[] = {{BNB_NF4, "nf4", bnb::formats::nf4::kThresholdBits, 15, false},
                               {BNB_FP4, "fp4", bnb::formats::fp4::kThresholdBits, 7, true}};

constexpr DLDataType kU64{kDLUInt, 64, 1};

Thresholds thresholds_of(const Format &format) {
  Thresholds thresholds;
  for (int i = 0; i < format.count; ++i) {
    const float at = bnb::formats::float_from_bits(format.threshold_bits[i]);
    thresholds.at.push_back(at);
    if (format.signs) thresholds.at.push_back(-at);
  }
  return thresholds;
}

Call quantize(const Format &format, DLDataType dtype, Size size, Bytes content, DLDataType storage = kU8) {
  Call call;
  const int64_t items = ceil_div(ceil_div(size.n, 2), size_of(storage));
  const int A = call.input("A", dtype, {size.n}, std::move(content));
  const int out = call.output("out", storage, {items, 1});
  const int absmax = call.output("absmax", kF32, {size.blocks()});
  call.elements_per_item = 2 * size_of(storage);
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cquantize_4bit(t[A], type, size.blocksize, t[out], t[absmax], nullptr);
  };
  return call;
}

Call dequantize(const Format &format, DLDataType dtype, Size size, Bytes packed, std::vector<float> absmax_values,
                DLDataType storage = kU8) {
  Call call;
  const int64_t items = int64_t(packed.size()) / size_of(storage);
  const int A = call.input("A", storage, {items, 1}, std::move(packed));
  const int absmax = call.input("absmax", kF32, {size.blocks()}, bytes_of(absmax_values));
  const int out = call.output("out", dtype, {size.n}, Nan::kAny);
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    return cdequantize_4bit(t[A], t[absmax], nullptr, type, size.blocksize, t[out], nullptr);
  };
  return call;
}

Call dequantize_nested(const Format &format, DLDataType dtype, Size size, int64_t nested_blocksize, Random &random) {
  Call call;
  const int A = call.input("A", kU8, {ceil_div(size.n, 2)}, random_bytes(ceil_div(size.n, 2), random));
  const NestedInputs nested = add_nested(call, "absmax", size.blocks(), nested_blocksize, random);
  const int out = call.output("out", dtype, {size.n}, Nan::kAny);
  call.invoke = [=, type = format.quant_type](DLTensor *const *t) {
    const bnb_nested description = nested.describe(t);
    return cdequantize_4bit(t[A], t[nested.codes], &description, type, size.blocksize, t[out], nullptr);
  };
  return call;
}

std::string name(const char *op, const Format &format, DLDataType dtype, const std::string &rest) {
  return std::string("fourbit/") + op + "/" + format.name + "/" + name_of(dtype) + "/" + rest;
}

// Every bit pattern of a 16-bit dtype, in blocks of 2 whose other element is the absmax, in blocks of neighbours, and
// shuffled without NaN and infinity.
void quantize_all_16bit(Suite &suite, const Format &format, DLDataType dtype) {
  for (float partner : {1.0f, 0.75f, 65504.0f, 0x1p-14f}) {
    suite.check(name("quantize", format, dtype, "all_inputs/beside_" + std::to_string(partner)), [&](Random &) {
      return quantize(format, dtype, {2 * 65536, 2}, all_16bit_beside(dtype, partner));
    });
  }
  suite.check(name("quantize", format, dtype, "all_inputs/in_order"), [&](Random &) {
    return quantize(format, dtype, {65536, 64}, all_16bit(dtype, nullptr));
  });
  for (int64_t blocksize : {32, 64, 256, 62}) {
    suite.check(name("quantize", format, dtype, "all_inputs/shuffled/bs" + std::to_string(blocksize)),
                [&](Random &random) {
                  Bytes content = all_16bit(dtype, &random);
                  const Size size{int64_t(content.size()) / 2, blocksize};
                  return quantize(format, dtype, size, std::move(content));
                });
  }
}

void quantize_cases(Suite &suite, const Format &format, DLDataType dtype) {
  const Thresholds thresholds = thresholds_of(format);
  const auto check = [&](Size size, Fill fill) {
    suite.check(name("quantize", format, dtype, name_of(size) + "/" + name_of(fill)), [&](Random &random) {
      return quantize(format, dtype, size, filled(fill, dtype, size.n, size.blocksize, thresholds, random));
    });
  };
  for (Size size : edge_sizes(2, suite.quick())) check(size, Fill::kMixed);
  for (Size size : fill_sizes(suite.quick())) {
    for (Fill fill : kAllFills) check(size, fill);
  }
  for (Size size : large_sizes(2, suite.quick())) check(size, Fill::kMixed);
  for (DLDataType storage : {kI8, kF16, kBF16, kF32, kI32, kU64}) {
    for (int64_t n : {0, 1, 2, 3, 5, 16, 17, 33, 63}) {
      suite.check(
          name(
              "quantize", format, dtype,
              "storage" + std::to_string(storage.code) + "_" + std::to_string(storage.bits) + "/n" + std::to_string(n)),
          [&](Random &random) {
            return quantize(format, dtype, {n, 16}, filled(Fill::kNormal, dtype, n, 16, thresholds, random), storage);
          });
    }
  }
  if (size_of(dtype) == 2) quantize_all_16bit(suite, format, dtype);
}

void dequantize_cases(Suite &suite, const Format &format, DLDataType dtype) {
  const auto check = [&](Size size) {
    suite.check(name("dequantize", format, dtype, name_of(size)), [&](Random &random) {
      return dequantize(format, dtype, size, random_bytes(ceil_div(size.n, 2), random), scales(size.blocks(), random));
    });
  };
  const auto check_nested = [&](Size size, int64_t nested_blocksize) {
    suite.check(name("dequantize", format, dtype, name_of(size) + "/nested" + std::to_string(nested_blocksize)),
                [&](Random &random) { return dequantize_nested(format, dtype, size, nested_blocksize, random); });
  };
  for (Size size : edge_sizes(2, suite.quick())) {
    check(size);
    check_nested(size, 256);
  }
  for (int64_t nested_blocksize : {int64_t(1), int64_t(3), int64_t(7), INT64_MAX})
    check_nested({3001, 64}, nested_blocksize);
  for (Size size : large_sizes(2, suite.quick())) {
    check(size);
    check_nested(size, 256);
  }
  suite.check(name("dequantize", format, dtype, "all_codes"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 16 : 512;
    return dequantize(format, dtype, {512 * blocks, 512}, all_bytes(blocks), scales(blocks, random));
  });
  suite.check(name("dequantize", format, dtype, "any_absmax"), [&](Random &random) {
    const int64_t blocks = suite.quick() ? 500 : 20000;
    return dequantize(format, dtype, {32 * blocks, 32}, random_bytes(16 * blocks, random), any_floats(blocks, random));
  });
  for (int64_t n : {0, 1, 3, 5, 16, 17, 33}) {  // the bytes behind the last code mean nothing
    suite.check(name("dequantize", format, dtype, "storage8/n" + std::to_string(n)), [&](Random &random) {
      const Size size{n, 16};
      return dequantize(format, dtype, size, random_bytes(ceil_div(n, 16) * 8, random), scales(size.blocks(), random),
                        kU64);
    });
  }
}

}  // namespace

CONFORMANCE(fourbit) {
  for (const Format &format : kFormats) {
    for (DLDataType dtype : kFloats) {
      quantize_cases(suite, format, dtype);
      dequantize_cases(suite, format, dtype);
      const Size size{suite.bench_elements(), 64};
      const double bytes = double(size.n) * double(size_of(dtype)) + double(size.n) / 2 + 4.0 * double(size.blocks());
      suite.bench(name("quantize", format, dtype, "bs64"), bytes, [&](Random &random) {
        return quantize(format, dtype, size, filled(Fill::kNormal, dtype, size.n, 64, {}, random));
      });
      suite.bench(name("dequantize", format, dtype, "bs64"), bytes, [&](Random &random) {
        return dequantize(format, dtype, size, random_bytes(size.n / 2, random),
                          std::vector<float>(size_t(size.blocks()), 1.0f));
      });
      suite.bench(name("dequantize", format, dtype, "bs64/nested"), bytes,
                  [&](Random &random) { return dequantize_nested(format, dtype, size, 256, random); });
    }
  }
}
