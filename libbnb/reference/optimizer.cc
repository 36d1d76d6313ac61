// SPDX-License-Identifier: MIT
// The optimizers, written to be read: these are the definitions, in fp32, one rounding per operation written here.
//
//   g = gnorm_scale * g;  where the decay is coupled (momentum, RMSprop, Adagrad):  g = fma(weight_decay, p, g)
//   state, direction = step(state, g)                 below, one per optimizer
//   p = fma(step_size, direction, p * kept)           kept = 1 - lr * weight_decay where the decay is decoupled, else 1
//
// p, g and the fp32 states are read once and rounded once. t is the step; us = 1, or what max_unorm makes of it
// (core/optimizer.h); c1 = 1 - beta1^t and c2 = sqrt(1 - beta2^t) are computed in double, so are the constants made
// from them, each rounded once:
//   step_size = -lr * us, for Adam -lr * us * c2 / c1;  eps stands for eps * c2 with Adam and AdEMAMix.
//
// 8-bit states: state = code[codes[i]] * absmax[block] before; after, absmax = max |state| over the block, and the
// nearest code of the state divided by it, by the rules of quantize_blockwise. A block in which all is skipped is not
// encoded anew.
#include <cmath>

#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

// first: the average of gradients, or the only state. second: of their squares. slow: AdEMAMix's second average.
struct State {
  float first = 0.0f, second = 0.0f, slow = 0.0f;
};

float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }  // NaN stays NaN

// Moves the state by the gradient and returns the direction.
float step(bnb_optimizer optimizer, const OptimizerFactors &f, float g, State &s) {
  switch (optimizer) {
    case BNB_ADAM:
      s.first = std::fma(f.beta1, s.first, f.rest1 * g);
      s.second = std::fma(f.beta2, s.second, f.rest2 * (g * g));
      return s.first / (std::sqrt(s.second) + f.eps);
    case BNB_ADEMAMIX:  // mix1 = c2 / c1, mix3 = c2 * alpha
      s.first = std::fma(f.beta1, s.first, f.rest1 * g);
      s.slow = std::fma(f.beta3, s.slow, f.rest3 * g);
      s.second = std::fma(f.beta2, s.second, f.rest2 * (g * g));
      return std::fma(f.mix3, s.slow, f.mix1 * s.first) / (std::sqrt(s.second) + f.eps);
    case BNB_MOMENTUM: s.first = f.first_step ? g : std::fma(f.beta1, s.first, g); return s.first;
    case BNB_RMSPROP: s.first = std::fma(f.beta1, s.first, f.rest1 * (g * g)); return g / (std::sqrt(s.first) + f.eps);
    case BNB_ADAGRAD: s.first = std::fma(g, g, s.first); return g / (std::sqrt(s.first) + f.eps);
    default: {  // BNB_LION
      const float direction = sign(std::fma(f.beta1, s.first, f.rest1 * g));
      s.first = std::fma(f.beta2, s.first, f.rest2 * g);
      return direction;
    }
  }
}

// An element before and after its step.
struct Element {
  State state;
  float p = 0.0f, direction = 0.0f;
  bool skipped = false;  // state and p are what they were
};

template <typename States>
Element update(const OptimizerKernelArgs &args, const States &states, int64_t i) {
  Element element;
  element.state = states.read(i);
  with_float(args.p_dtype, [&](auto tag) { element.p = load_float<decltype(tag)>(args.p, i); });
  float g = 0.0f;
  with_float(args.g_dtype, [&](auto tag) { g = load_float<decltype(tag)>(args.g, i); });

  const bool nonfinite = !std::isfinite(g);
  if (nonfinite && args.found_nonfinite) __atomic_store_n(args.found_nonfinite, 1, __ATOMIC_RELAXED);
  element.skipped = (args.skip_nonfinite && nonfinite) || (args.skip_zeros && g == 0.0f);
  if (element.skipped) return element;

  const OptimizerFactors &f = args.factors;
  g = f.gnorm_scale * g;
  if (f.coupled_decay != 0.0f) g = std::fma(f.coupled_decay, element.p, g);
  element.direction = step(args.optimizer, f, g, element.state);
  element.p = std::fma(f.step_size, element.direction, element.p * f.kept);
  return element;
}

void write_p(const OptimizerKernelArgs &args, int64_t i, float p) {
  with_float(args.p_dtype, [&](auto tag) { store_float<decltype(tag)>(args.p, i, p); });
}

// Where the states of an element are: first at i, slow at n + i, of state1; second at i of state2.
struct States32bit {
  const OptimizerKernelArgs &args;

  State read(int64_t i) const {
    State state;
    state.first = load<float>(args.state1, i);
    if (args.optimizer == BNB_ADEMAMIX) state.slow = load<float>(args.state1, args.n + i);
    if (args.state2) state.second = load<float>(args.state2, i);
    return state;
  }
  void write(int64_t i, const State &state) const {
    store<float>(args.state1, i, state.first);
    if (args.optimizer == BNB_ADEMAMIX) store<float>(args.state1, args.n + i, state.slow);
    if (args.state2) store<float>(args.state2, i, state.second);
  }
};

uint8_t nearest(float normalised, const cpu::CodeSearch &search) {
  int code = 0;  // the number of midpoints strictly below
  while (code < 255 && normalised > search.midpoints[code]) ++code;
  return uint8_t(code);
}

struct States8bit {
  const OptimizerKernelArgs &args;
  int64_t nb = block_count(args.n, args.blocksize);

  uint8_t *codes1() const { return static_cast<uint8_t *>(args.state1); }
  uint8_t *codes2() const { return static_cast<uint8_t *>(args.state2); }

  State read(int64_t i) const {
    const int64_t block = i / args.blocksize;
    State state;
    state.first = load<float>(args.qmap1, codes1()[i]) * load<float>(args.absmax1, block);
    if (args.optimizer == BNB_ADEMAMIX) {
      state.slow = load<float>(args.qmap1, codes1()[args.n + i]) * load<float>(args.absmax1, nb + block);
    }
    if (args.state2) state.second = load<float>(args.qmap2, codes2()[i]) * load<float>(args.absmax2, block);
    return state;
  }
  void write(int64_t i, const State &state, const State &absmax) const {
    codes1()[i] = nearest(normalise(state.first, absmax.first), *args.search1);
    if (args.optimizer == BNB_ADEMAMIX)
      codes1()[args.n + i] = nearest(normalise(state.slow, absmax.slow), *args.search1);
    if (args.state2) codes2()[i] = nearest(normalise(state.second, absmax.second), *args.search2);
  }
  void write_absmax(int64_t block, const State &absmax) const {
    store<float>(args.absmax1, block, absmax.first);
    if (args.optimizer == BNB_ADEMAMIX) store<float>(args.absmax1, nb + block, absmax.slow);
    if (args.state2) store<float>(args.absmax2, block, absmax.second);
  }
};

// sums[section] for sections [begin, end) of n elements, of the squares of value(i): kSumLanes and the constants beside
// it.
template <typename Value>
void sum_sections(int64_t n, double *sums, int64_t begin, int64_t end, const Value &value) {
  for (int64_t section = begin; section < end; ++section) {
    sums[section] = 0.0;
    const int64_t section_end = n / kSumSection > section ? (section + 1) * kSumSection : n;
    for (int64_t first = section * kSumSection; first < section_end; first += kSumPiece) {
      const int64_t last = section_end - first < kSumPiece ? section_end : first + kSumPiece;
      double lanes[kSumLanes] = {}, piece = 0.0;
      for (int64_t i = first; i < last; ++i) {
        const double x = double(value(i));  // its square is exact
        lanes[(i - first) % kSumLanes] += x * x;
      }
      for (double lane : lanes) piece += lane;
      sums[section] += piece;
    }
  }
}

}  // namespace

void optimizer_update_32bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  const States32bit states{args};
  for (int64_t i = begin; i < end; ++i) {
    const Element element = update(args, states, i);
    if (element.skipped) continue;
    states.write(i, element.state);
    write_p(args, i, element.p);
  }
}

void optimizer_update_8bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  const States8bit states{args};
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * args.blocksize;
    const int64_t last = args.n - first < args.blocksize ? args.n : first + args.blocksize;
    bool all_skipped = true;
    State absmax;
    for (int64_t i = first; i < last; ++i) {
      const Element element = update(args, states, i);
      all_skipped = all_skipped && element.skipped;
      absmax.first = larger(absmax.first, element.state.first);
      absmax.slow = larger(absmax.slow, element.state.slow);
      absmax.second = larger(absmax.second, element.state.second);
    }
    if (all_skipped) continue;
    for (int64_t i = first; i < last; ++i) {
      const Element element = update(args, states, i);
      states.write(i, element.state, absmax);
      if (!element.skipped) write_p(args, i, element.p);
    }
    states.write_absmax(block, absmax);
  }
}

void optimizer_measure_32bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  const States32bit states{args};
  sum_sections(args.n, args.sums, begin, end, [&](int64_t i) { return update(args, states, i).direction; });
}

void optimizer_measure_8bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  const States8bit states{args};
  sum_sections(args.n, args.sums, begin, end, [&](int64_t i) { return update(args, states, i).direction; });
}

void sum_squares(const SumSquaresArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    sum_sections(args.n, args.sums, begin, end, [&](int64_t i) { return load_float<decltype(tag)>(args.data, i); });
  });
}

}  // namespace bnb::reference
