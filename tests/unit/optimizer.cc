// SPDX-License-Identifier: MIT
// Optimizers against their papers' formulas in float64, bad input, and what happens to gradients that are not finite.
#include <bnb/bnb.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "conformance/random.h"

namespace {

using conformance::Random;
using Floats = std::vector<float>;
using Codes = std::vector<uint8_t>;

constexpr DLDataType kF32{kDLFloat, 32, 1}, kU8{kDLUInt, 8, 1};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// A descriptor and the shape it points to.
struct Tensor {
  int64_t shape[1];
  DLTensor descriptor{};
  Tensor(void *data, int64_t n, DLDataType dtype) : shape{n} {
    descriptor.data = data;
    descriptor.device = {kDLCPU, 0};
    descriptor.ndim = 1;
    descriptor.dtype = dtype;
    descriptor.shape = shape;
  }
  explicit Tensor(Floats &values) : Tensor(values.data(), int64_t(values.size()), kF32) {}
  explicit Tensor(Codes &codes) : Tensor(codes.data(), int64_t(codes.size()), kU8) {}
  Tensor(const Tensor &) = delete;
  DLTensor *operator&() { return &descriptor; }
};

bool has_second(bnb_optimizer o) { return o == BNB_ADAM || o == BNB_LAMB || o == BNB_ADEMAMIX; }
int64_t averages(bnb_optimizer o) { return o == BNB_ADEMAMIX ? 2 : 1; }

bnb_optimizer_config usual(bnb_optimizer optimizer) {
  bnb_optimizer_config config{};
  config.optimizer = optimizer;
  config.lr = 0.01;
  config.beta1 = 0.9;
  config.beta2 = 0.99;
  config.beta3 = 0.999;
  config.alpha = 4.0;
  config.eps = 1e-6;
  config.weight_decay = 0.05;
  config.gnorm_scale = 0.5;
  return config;
}

// One parameter with fp32 states, and the call on it.
struct Parameter {
  bnb_optimizer optimizer;
  Floats g, p, state1, state2, unorm{0.0f};
  double param_norm = 0.0;

  Parameter(bnb_optimizer o, int64_t n, Random &random) : optimizer(o), state1(size_t(averages(o) * n)) {
    if (has_second(o)) state2.resize(size_t(n));
    for (int64_t i = 0; i < n; ++i) p.push_back(random.normal());
    g.resize(size_t(n));
    draw(random);
  }
  void draw(Random &random) {
    for (float &x : g) x = random.normal() * 0.3f;
  }
  bnb_status update(const bnb_optimizer_config &config, int64_t step) {
    Tensor g_(g), p_(p), s1(state1), s2(state2), u(unorm);
    bnb_optimizer_tensors tensors{};
    tensors.g = &g_;
    tensors.p = &p_;
    tensors.state1 = &s1;
    if (has_second(optimizer)) tensors.state2 = &s2;
    tensors.unorm_vec = &u;
    tensors.param_norm = param_norm;
    tensors.step = step;
    return coptimizer_update_32bit(&config, &tensors, 1, nullptr);
  }
};

// The papers in float64. Gradient and coupled decay first, decoupled decay before the update.
struct Paper {
  bnb_optimizer_config c;
  std::vector<double> p, m, v, slow;

  Paper(const bnb_optimizer_config &config, const Floats &start)
      : c(config), p(start.begin(), start.end()), m(p.size()), v(p.size()), slow(p.size()) {}

  double direction(size_t i, double g, int64_t t) {
    const double correction1 = 1.0 - std::pow(c.beta1, double(t)), correction2 = 1.0 - std::pow(c.beta2, double(t));
    const double old = m[i];
    switch (c.optimizer) {
      case BNB_ADAM:
      case BNB_LAMB:
        m[i] = c.beta1 * m[i] + (1 - c.beta1) * g;
        v[i] = c.beta2 * v[i] + (1 - c.beta2) * g * g;
        return m[i] / correction1 / (std::sqrt(v[i] / correction2) + c.eps);
      case BNB_ADEMAMIX:
        m[i] = c.beta1 * m[i] + (1 - c.beta1) * g;
        slow[i] = c.beta3 * slow[i] + (1 - c.beta3) * g;
        v[i] = c.beta2 * v[i] + (1 - c.beta2) * g * g;
        return (m[i] / correction1 + c.alpha * slow[i]) / (std::sqrt(v[i] / correction2) + c.eps);
      case BNB_MOMENTUM:
      case BNB_LARS: return m[i] = t == 1 ? g : c.beta1 * m[i] + g;
      case BNB_RMSPROP: m[i] = c.beta1 * m[i] + (1 - c.beta1) * g * g; return g / (std::sqrt(m[i]) + c.eps);
      case BNB_ADAGRAD: m[i] += g * g; return g / (std::sqrt(m[i]) + c.eps);
      default: {
        m[i] = c.beta2 * old + (1 - c.beta2) * g;
        const double mixed = c.beta1 * old + (1 - c.beta1) * g;
        return double(mixed > 0) - double(mixed < 0);
      }
    }
  }

  // Returns the norm of the update.
  double update(const Floats &gradient, int64_t t) {
    const bool decoupled = has_second(c.optimizer) || c.optimizer == BNB_LION;
    std::vector<double> d(p.size());
    double squares = 0, p_squares = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double g = c.gnorm_scale * double(gradient[i]) + (decoupled ? 0.0 : c.weight_decay * p[i]);
      d[i] = direction(i, g, t);
      squares += d[i] * d[i];
      p_squares += p[i] * p[i];
    }
    const double norm = std::sqrt(squares), limit = c.max_unorm * std::sqrt(p_squares);
    const double scale = limit > 0 && norm > limit ? limit / norm : 1.0;
    for (size_t i = 0; i < p.size(); ++i) {
      if (decoupled) p[i] *= 1 - c.lr * c.weight_decay;
      p[i] -= c.lr * scale * d[i];
    }
    return norm;
  }
};

void follows_paper(bnb_optimizer optimizer, double max_unorm) {
  Random random(uint64_t(optimizer) + 100);
  constexpr int64_t kSteps = 50;
  bnb_optimizer_config config = usual(optimizer);
  config.max_unorm = max_unorm;
  Parameter parameter(optimizer, 333, random);
  Paper paper(config, parameter.p);
  for (int64_t t = 1; t <= kSteps; ++t) {
    parameter.draw(random);
    CHECK(parameter.update(config, t) == BNB_OK);
    const double norm = paper.update(parameter.g, t);
    if (max_unorm > 0)
      CHECK_THAT(std::fabs(double(parameter.unorm[0]) - norm) <= 1e-4 * norm, "norm %g, must be %g",
                 double(parameter.unorm[0]), norm);
  }
  for (size_t i = 0; i < parameter.p.size(); ++i) {
    // A step rounds p twice, and its update to some parts in 2^22.
    const double bound = double(kSteps) * (0x1p-23 * std::fabs(paper.p[i]) + 0x1p-21 * config.lr * 10);
    const double distance = std::fabs(double(parameter.p[i]) - paper.p[i]);
    CHECK_THAT(distance <= bound, "optimizer %d: p is %g off %g", int(optimizer), distance, paper.p[i]);
  }
}

// One step with 8-bit states is a step with fp32 states of the same values, then the nearest codes.
void eight_bits_are_encoded_fp32(bnb_optimizer optimizer) {
  Random random(uint64_t(optimizer) + 200);
  constexpr int64_t kN = 1000, kBlocksize = 100, kBlocks = 10;
  const int64_t k = averages(optimizer);
  bnb_optimizer_config config = usual(optimizer);
  Parameter wide(optimizer, kN, random);
  Floats code1(256), code2(256);
  bnb_create_dynamic_map(optimizer != BNB_RMSPROP && optimizer != BNB_ADAGRAD, code1.data());
  bnb_create_dynamic_map(0, code2.data());
  Codes codes1(size_t(k * kN)), codes2(size_t(has_second(optimizer) ? kN : 0));
  Floats absmax1(size_t(k * kBlocks)), absmax2(size_t(has_second(optimizer) ? kBlocks : 0)), p = wide.p;
  const auto draw = [&](const Floats &code, Codes &codes, Floats &absmax, Floats &states) {
    for (float &scale : absmax) scale = 0.01f + 0.1f * float(random.unit());
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = uint8_t(random.below(256));
      states[i] = code[codes[i]] * absmax[i / kBlocksize];
    }
  };
  draw(code1, codes1, absmax1, wide.state1);
  draw(code2, codes2, absmax2, wide.state2);

  Tensor g_(wide.g), p_(p), s1(codes1), s2(codes2), a1(absmax1), a2(absmax2), q1(code1), q2(code2);
  bnb_optimizer_tensors tensors{};
  tensors.g = &g_;
  tensors.p = &p_;
  tensors.state1 = &s1;
  tensors.absmax1 = &a1;
  tensors.qmap1 = &q1;
  if (has_second(optimizer)) tensors.state2 = &s2, tensors.absmax2 = &a2, tensors.qmap2 = &q2;
  tensors.step = 5;
  CHECK(coptimizer_update_8bit(&config, &tensors, 1, kBlocksize, nullptr) == BNB_OK);
  CHECK(wide.update(config, 5) == BNB_OK);
  CHECK(p == wide.p);
  const auto check = [&](const Floats &code, Codes &codes, Floats &absmax, Floats &states) {
    Codes want(codes.size());
    Floats want_absmax(absmax.size());
    Tensor x(states), c(const_cast<Floats &>(code)), out(want), scales(want_absmax);
    CHECK(cquantize_blockwise(&x, &c, kBlocksize, &out, &scales, nullptr) == BNB_OK);
    CHECK(codes == want);
    CHECK(absmax == want_absmax);
  };
  check(code1, codes1, absmax1, wide.state1);
  if (has_second(optimizer)) check(code2, codes2, absmax2, wide.state2);
}

// Every way to be wrong is refused, names its argument, and changes nothing.
void bad_input() {
  Random random(7);
  Parameter good(BNB_ADAM, 10, random), other(BNB_ADAM, 10, random);
  Floats small(9), code(256);
  bnb_create_dynamic_map(1, code.data());
  const auto refused = [&](const char *word,
                           const std::function<void(bnb_optimizer_config &, bnb_optimizer_tensors &)> &spoil) {
    bnb_optimizer_config config = usual(BNB_ADAM);
    Tensor g1(good.g), p1(good.p), m1(good.state1), v1(good.state2), g2(other.g), p2(other.p), m2(other.state1),
        v2(other.state2);
    bnb_optimizer_tensors list[2] = {};
    list[0].g = &g1, list[0].p = &p1, list[0].state1 = &m1, list[0].state2 = &v1, list[0].step = 1;
    list[1].g = &g2, list[1].p = &p2, list[1].state1 = &m2, list[1].state2 = &v2, list[1].step = 1;
    spoil(config, list[1]);
    const Floats before = good.p;
    CHECK(coptimizer_update_32bit(&config, list, 2, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
    CHECK_THAT(std::strstr(bnb_last_error(), word), "'%s' does not name %s", bnb_last_error(), word);
    CHECK(good.p == before);
  };
  const auto config_refused = [&](const char *word, const std::function<void(bnb_optimizer_config &)> &spoil) {
    refused(word, [&](bnb_optimizer_config &config, bnb_optimizer_tensors &) { spoil(config); });
  };
  const auto entry_refused = [&](const char *word, const std::function<void(bnb_optimizer_tensors &)> &spoil) {
    refused(word, [&](bnb_optimizer_config &, bnb_optimizer_tensors &tensors) { spoil(tensors); });
  };
  for (double bad : {-1e-9, double(kNan), double(kInfinity)}) {
    config_refused("config.lr", [&](auto &c) { c.lr = bad; });
    config_refused("config.eps", [&](auto &c) { c.eps = bad; });
    config_refused("config.weight_decay", [&](auto &c) { c.weight_decay = bad; });
    config_refused("config.max_unorm", [&](auto &c) { c.max_unorm = bad; });
    config_refused("config.beta1", [&](auto &c) { c.beta1 = bad; });
    entry_refused("tensors[1].param_norm", [&](auto &t) { t.param_norm = bad; });
  }
  config_refused("config.beta1", [](auto &c) { c.beta1 = 1.0; });
  config_refused("config.beta2", [](auto &c) { c.beta2 = 1.5; });
  config_refused("config.beta3", [](auto &c) { c.optimizer = BNB_ADEMAMIX, c.beta3 = 1.0; });
  config_refused("config.alpha", [](auto &c) { c.optimizer = BNB_ADEMAMIX, c.alpha = -1.0; });
  config_refused("config.gnorm_scale", [](auto &c) { c.gnorm_scale = double(kInfinity); });
  config_refused("config.optimizer", [](auto &c) { c.optimizer = bnb_optimizer(8); });
  config_refused("config.optimizer", [](auto &c) { c.optimizer = bnb_optimizer(-1); });
  config_refused("config.nonfinite", [](auto &c) { c.nonfinite = bnb_nonfinite(3); });
  config_refused("config.found_inf", [](auto &c) { c.nonfinite = BNB_NONFINITE_SKIP_STEP; });
  config_refused("config.skip_zeros", [](auto &c) { c.skip_zeros = 2; });
  config_refused("config.reserved", [](auto &c) { c.reserved = 1; });
  config_refused("tensors[0].state2", [](auto &c) { c.optimizer = BNB_LION; });
  config_refused("tensors[0].state1", [](auto &c) { c.optimizer = BNB_ADEMAMIX; });
  Tensor nine(small), map(code), one(small.data(), 1, kF32);
  for (int64_t step : {int64_t(0), int64_t(-1), INT64_MIN}) {
    entry_refused("tensors[1].step", [&](auto &t) { t.step = step; });
  }
  entry_refused("tensors[1].g", [](auto &t) { t.g = nullptr; });
  entry_refused("tensors[1].p", [](auto &t) { t.p = nullptr; });
  entry_refused("tensors[1].state1", [](auto &t) { t.state1 = nullptr; });
  entry_refused("tensors[1].state2", [](auto &t) { t.state2 = nullptr; });
  entry_refused("tensors[1].p", [&](auto &t) { t.p = &nine; });
  entry_refused("tensors[1].state1", [&](auto &t) { t.state1 = &nine; });
  entry_refused("tensors[1].state2", [&](auto &t) { t.state2 = &nine; });
  entry_refused("tensors[1].unorm_vec", [&](auto &t) { t.unorm_vec = &nine; });
  entry_refused("qmap1", [&](auto &t) { t.qmap1 = &map; });
  entry_refused("overlaps", [](auto &t) { t.state1 = t.p; });
  entry_refused("overlaps", [](auto &t) { t.p = const_cast<DLTensor *>(t.g); });
  refused("tensors[0].state1 overlaps p", [](auto &, bnb_optimizer_tensors &second) {  // of another entry than the last
    bnb_optimizer_tensors &first = *(&second - 1);
    first.state1 = first.p;
  });
  refused("unorm_vec overlaps config.found_inf",
          [&](auto &c, bnb_optimizer_tensors &t) { c.found_inf = t.unorm_vec = &one; });
  bnb_optimizer_config config = usual(BNB_ADAM);
  CHECK(coptimizer_update_32bit(nullptr, nullptr, 0, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(coptimizer_update_32bit(&config, nullptr, 1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(coptimizer_update_32bit(&config, nullptr, -1, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(coptimizer_update_32bit(&config, nullptr, 0, nullptr) == BNB_OK);
  CHECK(coptimizer_update_8bit(&config, nullptr, 0, 0, nullptr) == BNB_ERROR_INVALID_ARGUMENT);
}

void nonfinite_gradients() {
  Random random(8);
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    Parameter parameter(BNB_ADAM, 100, random);
    parameter.g[42] = bad;
    const Parameter before = parameter;
    Floats found{0.0f};
    Tensor found_inf(found);
    bnb_optimizer_config config = usual(BNB_ADAM);
    config.found_inf = &found_inf;

    config.nonfinite = BNB_NONFINITE_SKIP_STEP;
    CHECK(parameter.update(config, 1) == BNB_OK);
    CHECK(found[0] == 1.0f);
    CHECK(parameter.p == before.p && parameter.state1 == before.state1 && parameter.state2 == before.state2);
    parameter.g[42] = 0.5f;  // found before: skipped again, as GradScaler wants it
    CHECK(parameter.update(config, 1) == BNB_OK);
    CHECK(parameter.p == before.p);

    parameter.g[42] = bad;
    found[0] = 0.0f;
    config.nonfinite = BNB_NONFINITE_SKIP_ELEMENT;
    CHECK(parameter.update(config, 1) == BNB_OK);
    CHECK(found[0] == 1.0f);
    CHECK(parameter.p[42] == before.p[42] && parameter.state1[42] == before.state1[42]);
    CHECK(parameter.p[41] != before.p[41]);

    config.nonfinite = BNB_NONFINITE_PROPAGATE;
    found[0] = 0.0f;
    CHECK(parameter.update(config, 2) == BNB_OK);
    CHECK(found[0] == 1.0f);
    CHECK(!std::isfinite(parameter.p[42]) && std::isfinite(parameter.p[41]));

    parameter = before;
    parameter.g[42] = 0.0f;
    found[0] = 0.0f;
    config.skip_zeros = 1;
    CHECK(parameter.update(config, 1) == BNB_OK);
    CHECK(found[0] == 0.0f);
    CHECK(parameter.p[42] == before.p[42] && parameter.p[41] != before.p[41]);
  }
}

// Whatever the state was: it may be memory that nobody has set.
void first_step_of_momentum() {
  Random random(10);
  Parameter zeros(BNB_MOMENTUM, 40, random), other = zeros;
  for (float &state : other.state1) state = 123.0f;
  other.state1[3] = kNan;
  const bnb_optimizer_config config = usual(BNB_MOMENTUM);
  CHECK(zeros.update(config, 1) == BNB_OK);
  CHECK(other.update(config, 1) == BNB_OK);
  CHECK(zeros.p == other.p && zeros.state1 == other.state1);
}

// A trust ratio holds the update, does not hold zeros, and takes the caller's norm.
void trust_ratio() {
  Random random(9);
  bnb_optimizer_config config = usual(BNB_LAMB);
  config.max_unorm = 0.001;
  config.weight_decay = 0.0;
  Parameter zeros(BNB_LAMB, 50, random);
  for (float &x : zeros.p) x = 0.0f;
  CHECK(zeros.update(config, 1) == BNB_OK);
  CHECK(zeros.p[0] != 0.0f);

  Parameter measured(BNB_LAMB, 50, random), given = measured;
  const Floats start = measured.p;
  double norm = 0;
  for (float x : start) norm += double(x) * double(x);
  norm = std::sqrt(norm);
  given.param_norm = 2 * norm;
  CHECK(measured.update(config, 1) == BNB_OK);
  CHECK(given.update(config, 1) == BNB_OK);
  double moved = 0, moved_given = 0;
  for (size_t i = 0; i < start.size(); ++i) {
    moved += std::pow(double(measured.p[i]) - double(start[i]), 2);
    moved_given += std::pow(double(given.p[i]) - double(start[i]), 2);
  }
  const double want = config.lr * config.max_unorm * norm;
  CHECK(std::fabs(std::sqrt(moved) - want) <= 0.01 * want);
  CHECK(std::fabs(std::sqrt(moved_given) - 2 * want) <= 0.01 * want);
}

}  // namespace

int main() {
  for (int32_t table = 0; const char *isa = bnb_isa_name(table); ++table) {
    if (!bnb_isa_available(isa)) continue;
    CHECK(bnb_set_isa(isa) == BNB_OK);
    for (int32_t i = 0; i < 8; ++i) {
      const bnb_optimizer optimizer = bnb_optimizer(i);
      unit::run("follows its paper", [&] { follows_paper(optimizer, 0.0); });
      unit::run("follows its paper with a trust ratio", [&] { follows_paper(optimizer, 0.01); });
      unit::run("8-bit states are encoded fp32 states", [&] { eight_bits_are_encoded_fp32(optimizer); });
    }
    unit::run("the first step of momentum", first_step_of_momentum);
    unit::run("gradients that are not finite", nonfinite_gradients);
    unit::run("trust ratio", trust_ratio);
  }
  CHECK(bnb_set_isa(nullptr) == BNB_OK);
  unit::run("bad input", bad_input);
  return unit::summary();
}
