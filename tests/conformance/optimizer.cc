// SPDX-License-Identifier: MIT
// coptimizer_update_32bit and coptimizer_update_8bit.
#include <memory>

#include "codes.h"
#include "samples.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Optimizer {
  const char *name;
  bnb_optimizer value;
  bool second;
  int64_t averages;
  bool first_is_positive;  // state1 holds squares
};
constexpr Optimizer kOptimizers[] = {
    {"adam", BNB_ADAM, true, 1, false},         {"momentum", BNB_MOMENTUM, false, 1, false},
    {"rmsprop", BNB_RMSPROP, false, 1, true},   {"lars", BNB_LARS, false, 1, false},
    {"adagrad", BNB_ADAGRAD, false, 1, true},   {"lion", BNB_LION, false, 1, false},
    {"ademamix", BNB_ADEMAMIX, true, 2, false}, {"lamb", BNB_LAMB, true, 1, false}};

struct Variant {
  const char *name;
  bnb_optimizer_config config;  // without the optimizer
  int64_t step = 7;
  double param_norm = 0.0;
  float scale = 0.0f;      // not 0: given as a tensor
  float found_inf = 0.0f;  // before the call
};

bnb_optimizer_config plain() {
  bnb_optimizer_config config{};
  config.lr = 1e-3;
  config.beta1 = 0.9;
  config.beta2 = 0.999;
  config.beta3 = 0.9999;
  config.alpha = 5.0;
  config.eps = 1e-8;
  config.gnorm_scale = 1.0;
  return config;
}

std::vector<Variant> all_options() {
  std::vector<Variant> all;
  const auto add = [&](const char *name, const std::function<void(Variant &)> &change) {
    Variant options{name, plain()};
    change(options);
    all.push_back(options);
  };
  add("plain", [](Variant &) {});
  add("first_step", [](Variant &o) { o.step = 1; });
  add("decay", [](Variant &o) { o.config.weight_decay = 0.1, o.config.gnorm_scale = 0.37; });
  add("no_eps", [](Variant &o) { o.config.eps = 0.0, o.step = 100000; });
  add("scale", [](Variant &o) { o.config.gnorm_scale = -1.0, o.scale = 0.125f; });
  add("overflow", [](Variant &o) { o.config.gnorm_scale = 1e300, o.config.lr = 1e30, o.config.weight_decay = 1e20; });
  add("no_betas", [](Variant &o) { o.config.beta1 = o.config.beta2 = o.config.beta3 = 0.0; });
  add("skip_zeros", [](Variant &o) { o.config.skip_zeros = 1, o.config.weight_decay = 0.01; });
  add("skip_elements", [](Variant &o) { o.config.nonfinite = BNB_NONFINITE_SKIP_ELEMENT, o.found_inf = 0.5f; });
  add("skip_both", [](Variant &o) {
    o.config.nonfinite = BNB_NONFINITE_SKIP_ELEMENT;
    o.config.skip_zeros = 1;
    o.config.max_unorm = 0.01;
  });
  add("skip_step", [](Variant &o) { o.config.nonfinite = BNB_NONFINITE_SKIP_STEP; });
  add("step_is_skipped", [](Variant &o) { o.config.nonfinite = BNB_NONFINITE_SKIP_STEP, o.found_inf = 0.5f; });
  add("trust", [](Variant &o) { o.config.max_unorm = 0.02, o.config.weight_decay = 0.01; });
  add("trust_given_norm", [](Variant &o) { o.config.max_unorm = 1.0, o.param_norm = 0.75; });
  return all;
}

// One tensor of a call: places of its parts in the call, -1 where it has none.
struct Entry {
  int g, p, state1, state2 = -1, absmax1 = -1, absmax2 = -1, qmap1 = -1, qmap2 = -1, unorm_vec = -1;
};

struct Shape {
  Size size;  // blocksize 0: states in fp32
  DLDataType p, g;
  Fill fill;
};

// fp32 states: values, or magnitudes where a state holds squares.
Bytes state_values(const Shape &shape, int64_t averages, bool positive, Random &random) {
  Bytes bytes;
  for (int64_t i = 0; i < averages; ++i) {
    const Bytes more = filled(shape.fill, kF32, shape.size.n, 64, {}, random);
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  if (positive) {
    for (size_t i = 3; i < bytes.size(); i += 4) bytes[i] &= 0x7F;
  }
  return bytes;
}

std::vector<float> state_scales(int64_t n, Fill fill, Random &random) {
  if (fill == Fill::kMixed || fill == Fill::kBits) {
    std::vector<float> values = scales(n, random);
    for (float &value : values) value = std::fabs(value);
    return values;
  }
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = fill == Fill::kZeros && random.one_in(2) ? 0.0f : float(random.unit()) * 0.01f;
  return values;
}

Entry add_entry(Call &call, const Optimizer &optimizer, const Shape &shape, const std::vector<float> &code,
                Random &random) {
  const int64_t n = shape.size.n, averages = optimizer.averages;
  Entry entry;
  entry.g = call.input("g", shape.g, {n}, filled(shape.fill, shape.g, n, 64, {}, random));
  entry.p = call.updated("p", shape.p, {n}, filled(Fill::kNormal, shape.p, n, 64, {}, random), Nan::kAny);
  if (shape.size.blocksize == 0) {
    entry.state1 = call.updated("state1", kF32, {averages, n},
                                state_values(shape, averages, optimizer.first_is_positive, random), Nan::kAny);
    if (optimizer.second) {
      entry.state2 = call.updated("state2", kF32, {n}, state_values(shape, 1, true, random), Nan::kAny);
    }
  } else {
    const int64_t nb = shape.size.blocks();
    entry.state1 = call.updated("state1", kU8, {averages, n}, random_bytes(averages * n, random));
    entry.absmax1 =
        call.updated("absmax1", kF32, {averages, nb}, bytes_of(state_scales(averages * nb, shape.fill, random)));
    entry.qmap1 = call.input("qmap1", kF32, {256}, bytes_of(code));
    if (optimizer.second) {
      entry.state2 = call.updated("state2", kU8, {n}, random_bytes(n, random));
      entry.absmax2 = call.updated("absmax2", kF32, {nb}, bytes_of(state_scales(nb, shape.fill, random)));
      entry.qmap2 = call.input("qmap2", kF32, {256}, bytes_of(values_of(Code::kDynamicUnsigned, random)));
    }
  }
  entry.unorm_vec = call.updated("unorm_vec", kF32, {1}, bytes_of<float>({0.0f}), Nan::kAny);
  return entry;
}

bnb_optimizer_tensors describe(const Entry &entry, const Variant &options, DLTensor *const *t) {
  const auto at = [&](int i) { return i < 0 ? nullptr : t[i]; };
  return {at(entry.g),        at(entry.p),       at(entry.state1),
          at(entry.state2),   at(entry.absmax1), at(entry.absmax2),
          at(entry.qmap1),    at(entry.qmap2),   options.config.max_unorm > 0.0 ? at(entry.unorm_vec) : nullptr,
          options.param_norm, options.step};
}

Call make(const Optimizer &optimizer, const Variant &options, const std::vector<Shape> &shapes, Code code,
          Random &random) {
  Call call;
  std::vector<Entry> entries;
  const std::vector<float> code_values = values_of(code, random);
  for (const Shape &shape : shapes) entries.push_back(add_entry(call, optimizer, shape, code_values, random));
  const int scale = options.scale == 0.0f ? -1 : call.input("scale", kF32, {1}, bytes_of<float>({options.scale}));
  const int found_inf = call.updated("found_inf", kF32, {}, bytes_of<float>({options.found_inf}));
  const int64_t blocksize = shapes[0].size.blocksize;
  call.invoke = [=](DLTensor *const *t) {
    bnb_optimizer_config config = options.config;
    config.optimizer = optimizer.value;
    config.scale = scale < 0 ? nullptr : t[scale];
    config.found_inf = t[found_inf];
    std::vector<bnb_optimizer_tensors> list;
    for (const Entry &entry : entries) list.push_back(describe(entry, options, t));
    if (blocksize == 0) return coptimizer_update_32bit(&config, list.data(), int64_t(list.size()), nullptr);
    return coptimizer_update_8bit(&config, list.data(), int64_t(list.size()), blocksize, nullptr);
  };
  return call;
}

std::string name(const Optimizer &optimizer, const Variant &options, const std::string &rest) {
  return std::string("optimizer/") + optimizer.name + "/" + options.name + "/" + rest;
}
std::string describe(const Shape &shape) {
  const std::string size =
      shape.size.blocksize ? "8bit/" + name_of(shape.size) : "32bit/n" + std::to_string(shape.size.n);
  return size + "/p_" + name_of(shape.p) + "_g_" + name_of(shape.g) + "/" + name_of(shape.fill);
}

void check(Suite &suite, const Optimizer &optimizer, const Variant &options, const Shape &shape,
           Code code = Code::kDynamicSigned) {
  const std::string code_name = code == Code::kDynamicSigned ? "" : std::string("/") + name_of(code);
  suite.check(name(optimizer, options, describe(shape) + code_name),
              [&](Random &random) { return make(optimizer, options, {shape}, code, random); });
}

Variant option(const char *name) {
  for (const Variant &options : all_options()) {
    if (std::strcmp(options.name, name) == 0) return options;
  }
  return {};
}

// Every option with every dtype and with inputs that look for trouble.
void option_cases(Suite &suite, const Optimizer &optimizer) {
  const int64_t n = suite.quick() ? 200 : 1000;
  for (const Variant &options : all_options()) {
    for (Size size : {Size{n, 0}, Size{n, 64}}) {
      check(suite, optimizer, options, {size, kF32, kBF16, Fill::kMixed});
      check(suite, optimizer, options, {size, kBF16, kF32, Fill::kNormal});
      if (suite.quick()) continue;
      for (DLDataType dtype : kFloats) {
        for (Fill fill : {Fill::kNormal, Fill::kMixed}) check(suite, optimizer, options, {size, dtype, dtype, fill});
      }
    }
  }
}

// Blocks in which all is skipped, whatever a backend thinks of their size.
void skip_cases(Suite &suite, const Optimizer &optimizer) {
  for (const char *options : {"skip_zeros", "skip_elements", "skip_both"}) {
    for (int64_t blocksize : {1, 3, 8, 100, 512, 5000}) {
      for (Fill fill : {Fill::kZeros, Fill::kMixed}) {
        check(suite, optimizer, option(options), {{1003, blocksize}, kBF16, kF32, fill});
      }
    }
  }
}

void size_cases(Suite &suite, const Optimizer &optimizer) {
  const Variant decay = option("decay"), trust = option("trust");
  for (Size size : edge_sizes(1, suite.quick())) check(suite, optimizer, decay, {size, kF32, kF32, Fill::kNormal});
  for (int64_t n : {0, 1, 15, 16, 17, 1023, 1024, 1025, 4096, 4097}) {
    for (DLDataType dtype : kFloats) check(suite, optimizer, decay, {{n, 0}, dtype, dtype, Fill::kNormal});
  }
  // Two sections of the sums, and blocks beyond the kernels' buffers.
  const int64_t large = suite.quick() ? 66001 : 150001;
  for (Size size : {Size{large, 0}, Size{large, 256}, Size{large, 100}, Size{large, 65900}}) {
    check(suite, optimizer, trust, {size, kBF16, kBF16, Fill::kNormal});
    if (!suite.quick()) check(suite, optimizer, decay, {size, kBF16, kBF16, Fill::kNormal});
  }
}

void list_case(Suite &suite, const Optimizer &optimizer, int64_t blocksize) {
  const Variant options = option("trust");
  suite.check(name(optimizer, options, blocksize ? "8bit/list" : "32bit/list"), [&](Random &random) {
    std::vector<Shape> shapes;
    // A tensor of two sections of the sums; quick runs have it in the lists of one optimizer.
    const int64_t large = suite.quick() && optimizer.value != BNB_ADAM ? 6600 : 66000;
    const int64_t sizes[] = {0, 1, 255, 4096, large, 0, 17, 4097, 12000, 0};
    for (int64_t n : sizes) {
      const DLDataType p = kFloats[random.below(3)], g = kFloats[random.below(3)];
      shapes.push_back({{n, blocksize}, p, g, Fill::kNormal});
    }
    return make(optimizer, options, shapes, Code::kDynamicSigned, random);
  });
}

void fill_cases(Suite &suite, const Optimizer &optimizer) {
  const Variant options = option("decay");
  for (Fill fill : kAllFills) {
    check(suite, optimizer, options, {{2000, 0}, kF32, kF32, fill});
    check(suite, optimizer, options, {{2000, 256}, kF32, kF32, fill});
  }
}

void code_cases(Suite &suite, const Optimizer &optimizer) {
  const Variant options = option("decay");
  for (Code code : kAllCodes) {
    if (code == Code::kDynamicSigned) continue;
    check(suite, optimizer, options, {{2000, 256}, kF32, kF32, Fill::kNormal}, code);
    check(suite, optimizer, options, {{2000, 1500}, kF32, kF32, Fill::kMixed}, code);
  }
}

// After a step with a gradient of zeros, what was zero is zero, codes included.
std::string zeros_stay(const Optimizer &optimizer, const Target &target, Random &random) {
  const Shape shape{{500, 64}, kF32, kF32, Fill::kZeros};
  const std::vector<float> code = values_of(Code::kDynamicSigned, random);
  Call call = make(optimizer, option("first_step"), {shape}, Code::kDynamicSigned, random);
  for (Tensor &tensor : call.tensors) {
    if (tensor.name == std::string("absmax1") || tensor.name == std::string("absmax2")) {
      for (uint8_t &byte : tensor.content) byte = 0;
    }
  }
  std::vector<Bytes> results;
  const std::string trouble = run(call, target, kPlain, &results);
  if (!trouble.empty()) return trouble;
  for (size_t i = 0; i < call.tensors.size(); ++i) {
    const Tensor &tensor = call.tensors[i];
    if (tensor.name == std::string("p") && results[i] != tensor.content) return "p moved";
    const bool codes1 = tensor.name == std::string("state1"), codes2 = tensor.name == std::string("state2");
    for (uint8_t byte : results[i]) {
      if (codes1 && code[byte] != 0.0f) return "state1 is not zero";
      if (codes2 && byte != 0) return "state2 is not zero";
    }
  }
  return "";
}

}  // namespace

CONFORMANCE(optimizer) {
  for (const Optimizer &optimizer : kOptimizers) {
    list_case(suite, optimizer, 0);
    list_case(suite, optimizer, 256);
    if (suite.quick() && (optimizer.value == BNB_LAMB || optimizer.value == BNB_LARS)) continue;  // Adam and momentum
    option_cases(suite, optimizer);
    size_cases(suite, optimizer);
    skip_cases(suite, optimizer);
    if (!suite.quick()) fill_cases(suite, optimizer);
    if (!suite.quick() || optimizer.value == BNB_ADAM) code_cases(suite, optimizer);
    suite.check_on_each(std::string("optimizer/") + optimizer.name + "/zeros_stay_zeros",
                        [&](const Target &target, Random &random) { return zeros_stay(optimizer, target, random); });
  }
  constexpr int64_t kBenchSize = 1 << 24;
  const Variant plain = option("plain");
  for (const Optimizer &optimizer : kOptimizers) {
    for (DLDataType dtype : kFloats) {
      for (int64_t blocksize : {256, 0}) {
        const int64_t states = optimizer.averages + optimizer.second, state_bytes = blocksize ? 2 : 8;
        const Shape shape{{kBenchSize, blocksize}, dtype, dtype, Fill::kNormal};
        suite.bench(name(optimizer, plain, describe(shape)),
                    double(kBenchSize) * double(3 * size_of(dtype) + states * state_bytes),
                    [&](Random &random) { return make(optimizer, plain, {shape}, Code::kDynamicSigned, random); });
      }
    }
  }
}
