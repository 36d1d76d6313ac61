// SPDX-License-Identifier: MIT
// cmeasure_norms.
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Array {
  int64_t n;
  DLDataType dtype;
  Fill fill;
};

Call make(const std::vector<Array> &arrays, DLDataType norm_dtype, Random &random) {
  Call call;
  std::vector<int> places;
  for (const Array &array : arrays) {
    places.push_back(
        call.input("tensor", array.dtype, {array.n}, filled(array.fill, array.dtype, array.n, 64, {}, random)));
  }
  const int64_t count = int64_t(arrays.size());
  const int norms = call.output("norms", norm_dtype, {count}, Nan::kAny);
  const int total = call.output("total", norm_dtype, {}, Nan::kAny);
  const int found_inf = call.updated("found_inf", kF32, {1}, bytes_of<float>({0.0f}));
  call.invoke = [=](DLTensor *const *t) {
    std::vector<const DLTensor *> list;
    for (int place : places) list.push_back(t[place]);
    return cmeasure_norms(list.data(), count, t[norms], t[total], t[found_inf], nullptr);
  };
  return call;
}

// The sum in a wider type, in another order: the error of the library's is a few units of float64.
std::string against_long_double(const Target &target, Random &random) {
  const int64_t n = 100003;
  const Call call = make({{n, kF32, Fill::kNormal}}, kF64, random);
  long double sum = 0.0L;
  for (int64_t i = 0; i < n; ++i) {
    const long double x = value_of(kF32, call.tensors[0].content.data() + i * 4);
    sum += x * x;
  }
  std::vector<Bytes> results;
  const std::string trouble = run(call, target, kPlain, &results);
  if (!trouble.empty()) return trouble;
  double total;
  std::memcpy(&total, results[2].data(), sizeof total);
  const double want = double(std::sqrt(sum));
  return std::fabs(total - want) <= 1e-13 * want ? "" : std::to_string(total) + ", must be " + std::to_string(want);
}

}  // namespace

CONFORMANCE(norms) {
  for (DLDataType dtype : kFloats) {
    for (int64_t n : {0, 1, 15, 16, 17, 1023, 1024, 1025, 2049, 65536, 65537, 200003}) {
      suite.check("norms/n" + std::to_string(n) + "/" + name_of(dtype), [&](Random &random) {
        return make({{n, dtype, Fill::kNormal}}, kF64, random);
      });
    }
    for (Fill fill : kAllFills) {
      suite.check(std::string("norms/") + name_of(fill) + "/" + name_of(dtype), [&](Random &random) {
        return make({{3000, dtype, fill}, {5, dtype, Fill::kNormal}}, kF32, random);
      });
    }
    constexpr int64_t kBenchSize = 1 << 24;
    suite.bench("norms/" + name_of(dtype), double(kBenchSize * size_of(dtype)), [&](Random &random) {
      return make({{kBenchSize, dtype, Fill::kNormal}}, kF64, random);
    });
  }
  suite.check("norms/list", [&](Random &random) {
    std::vector<Array> arrays;
    for (int64_t n : {0, 70000, 3, 0, 1024, 150001, 1, 0})
      arrays.push_back({n, kFloats[random.below(3)], Fill::kNormal});
    return make(arrays, kF64, random);
  });
  suite.check("norms/no_tensors", [&](Random &random) { return make({}, kF64, random); });
  suite.check_on_each("norms/against_long_double", against_long_double);
}
