// SPDX-License-Identifier: MIT
// One step of every optimizer in vectors: the formulas of reference/optimizer.cc, operation by operation.
//
// A step has two halves. advance() moves the states; direction() tells from the new states where the parameter goes.
// States in 8 bits need the halves apart: all new states of a block are known before the first of them can be encoded,
// and the square roots and divisions of the second half then run beside the encoder's look-ups.
#ifndef BNB_CPU_KERNELS_OPTIMIZER_STEP_H_
#define BNB_CPU_KERNELS_OPTIMIZER_STEP_H_

#include "cpu/kernels.h"

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

template <bnb_optimizer kOptimizer>
struct Formula {
  static constexpr bool kSecond = kOptimizer == BNB_ADAM || kOptimizer == BNB_ADEMAMIX;
  static constexpr bool kSlow = kOptimizer == BNB_ADEMAMIX;
  static constexpr bool kDecoupled = kSecond || kOptimizer == BNB_LION;
  // What direction() needs besides the new states: the gradient, or all there is to say.
  static constexpr bool kCarries = kOptimizer == BNB_RMSPROP || kOptimizer == BNB_ADAGRAD || kOptimizer == BNB_LION;
};

// The constants of OptimizerFactors, as vectors.
struct Constants {
  Floats gnorm_scale, coupled_decay, kept, beta1, rest1, beta2, rest2, beta3, rest3, mix1, mix3, eps, step_size;
  bool couples, first_step, skip_zeros, skip_nonfinite;

  BNB_INLINE bool skips() const { return skip_zeros || skip_nonfinite; }
};
BNB_INLINE Constants make_constants(const OptimizerKernelArgs &args) {
  const OptimizerFactors &f = args.factors;
  return {splat(f.gnorm_scale), splat(f.coupled_decay), splat(f.kept),      splat(f.beta1),          splat(f.rest1),
          splat(f.beta2),       splat(f.rest2),         splat(f.beta3),     splat(f.rest3),          splat(f.mix1),
          splat(f.mix3),        splat(f.eps),           splat(f.step_size), f.coupled_decay != 0.0f, f.first_step,
          args.skip_zeros,      args.skip_nonfinite};
}

constexpr uint32_t kMagnitude = 0x7FFFFFFFu, kInfinite = 0x7F800000u;

// g as it came: which elements stay what they are.
BNB_INLINE Mask skipped(const Constants &c, Floats g) {
  Mask mask = first_lanes(0);
  if (c.skip_zeros) mask = equal(g, splat(0.0f));
  if (c.skip_nonfinite) {
    const Ints magnitude = and_int(bits(g), splat_bits(kMagnitude));
    mask = either(mask, greater_int(magnitude, splat_bits(kInfinite - 1)));
  }
  return mask;
}

template <bnb_optimizer kOptimizer>
BNB_INLINE Floats gradient(const Constants &c, Floats g, Floats p) {
  g = mul(c.gnorm_scale, g);
  if constexpr (!Formula<kOptimizer>::kDecoupled) {
    if (c.couples) g = fma(c.coupled_decay, p, g);
  }
  return g;
}

struct States {
  Floats first, second, slow;
};

// Moves the states by the gradient. Returns what direction() gets as `carried`.
template <bnb_optimizer kOptimizer>
BNB_INLINE Floats advance(const Constants &c, Floats g, States &s) {
  if constexpr (kOptimizer == BNB_ADAM || kOptimizer == BNB_ADEMAMIX) {
    s.first = fma(c.beta1, s.first, mul(c.rest1, g));
    if constexpr (Formula<kOptimizer>::kSlow) s.slow = fma(c.beta3, s.slow, mul(c.rest3, g));
    s.second = fma(c.beta2, s.second, mul(c.rest2, mul(g, g)));
  } else if constexpr (kOptimizer == BNB_MOMENTUM) {
    s.first = c.first_step ? g : fma(c.beta1, s.first, g);
  } else if constexpr (kOptimizer == BNB_RMSPROP) {
    s.first = fma(c.beta1, s.first, mul(c.rest1, mul(g, g)));
  } else if constexpr (kOptimizer == BNB_ADAGRAD) {
    s.first = fma(g, g, s.first);
  } else {
    const Floats mixed = fma(c.beta1, s.first, mul(c.rest1, g));
    s.first = fma(c.beta2, s.first, mul(c.rest2, g));
    const Floats zero = splat(0.0f);
    const Floats one = copy_sign(splat(1.0f), mixed);
    return select(either(greater(mixed, zero), greater(zero, mixed)), one, mixed);
  }
  return g;
}

template <bnb_optimizer kOptimizer>
BNB_INLINE Floats direction(const Constants &c, const States &s, Floats carried) {
  if constexpr (kOptimizer == BNB_ADAM) return div(s.first, add(sqrt(s.second), c.eps));
  if constexpr (kOptimizer == BNB_ADEMAMIX) {
    return div(fma(c.mix3, s.slow, mul(c.mix1, s.first)), add(sqrt(s.second), c.eps));
  }
  if constexpr (kOptimizer == BNB_MOMENTUM) return s.first;
  if constexpr (kOptimizer == BNB_RMSPROP || kOptimizer == BNB_ADAGRAD) return div(carried, add(sqrt(s.first), c.eps));
  return carried;
}

template <bnb_optimizer kOptimizer>
BNB_INLINE Floats moved(const Constants &c, Floats p, Floats direction) {
  if constexpr (Formula<kOptimizer>::kDecoupled) p = mul(p, c.kept);
  return fma(c.step_size, direction, p);
}

// All lanes of a vector, or the first few of them where the arrays end.
struct AllLanes {
  BNB_INLINE Floats load(const char *p) const { return BNB_ISA::load<F32>(p); }
  BNB_INLINE void store(char *p, Floats x) const { BNB_ISA::store<F32>(p, x); }
  BNB_INLINE void store_code(uint8_t *p, Ints code) const { store_uint8(p, code); }
  BNB_INLINE Ints only(Ints v) const { return v; }
  BNB_INLINE Mask mask() const { return first_lanes(kLanes); }
};
struct FirstLanes {
  int64_t count;
  BNB_INLINE Floats load(const char *p) const { return load_some<F32>(p, count); }
  BNB_INLINE void store(char *p, Floats x) const { store_some<F32>(p, x, count); }
  BNB_INLINE void store_code(uint8_t *p, Ints code) const { store_uint8_some(p, code, count); }
  BNB_INLINE Ints only(Ints v) const { return select_int(mask(), v, splat_int(0)); }  // zero in the others
  BNB_INLINE Mask mask() const { return first_lanes(count); }
};
// body(i, lanes) for the vectors of [0, count).
template <typename Body>
BNB_INLINE void for_lanes(int64_t count, const Body &body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, AllLanes{});
  if (i < count) body(i, FirstLanes{count - i});
}

// Elements that go through a kernel together, in fp32 and in the first-level cache.
constexpr int64_t kChunk = 1024;

struct alignas(64) Buffer {
  float values[kChunk];
  BNB_INLINE char *at(int64_t i) { return reinterpret_cast<char *>(values + i); }
};

// Elements [first, first + count) of an array as fp32: the array itself, or the buffer after filling it. count <=
// kChunk unless the array is fp32.
BNB_INLINE char *as_fp32(DType dtype, const void *array, int64_t first, int64_t count, Buffer &buffer) {
  const char *p = static_cast<const char *>(array);
  if (dtype == DType::kF32) return const_cast<char *>(p + first * 4);
  p += first * 2;
  const auto widen = [&](auto tag) {
    using Tag = decltype(tag);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store<F32>(buffer.at(i), load<Tag>(p + i * 2));
    if (i < count) store<F32>(buffer.at(i), load_some<Tag>(p + i * 2, count - i));
  };
  if (dtype == DType::kF16) {
    widen(F16{});
  } else {
    widen(BF16{});
  }
  return buffer.at(0);
}

// The way back, for what as_fp32() put into the buffer.
BNB_INLINE void store_from_fp32(DType dtype, void *array, int64_t first, int64_t count, Buffer &buffer) {
  if (dtype == DType::kF32) return;
  char *p = static_cast<char *>(array) + first * 2;
  const auto narrow = [&](auto tag) {
    using Tag = decltype(tag);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store<Tag>(p + i * 2, load<F32>(buffer.at(i)));
    if (i < count) store_some<Tag>(p + i * 2, load<F32>(buffer.at(i)), count - i);
  };
  if (dtype == DType::kF16) {
    narrow(F16{});
  } else {
    narrow(BF16{});
  }
}

// Calls body with the optimizer as a constant: body(std::integral_constant-like value).
template <bnb_optimizer kValue>
struct OptimizerConstant {
  static constexpr bnb_optimizer value = kValue;
};
template <typename Body>
BNB_INLINE void with_optimizer(bnb_optimizer optimizer, const Body &body) {
  switch (optimizer) {
    case BNB_ADAM: body(OptimizerConstant<BNB_ADAM>{}); break;
    case BNB_MOMENTUM: body(OptimizerConstant<BNB_MOMENTUM>{}); break;
    case BNB_RMSPROP: body(OptimizerConstant<BNB_RMSPROP>{}); break;
    case BNB_ADAGRAD: body(OptimizerConstant<BNB_ADAGRAD>{}); break;
    case BNB_LION: body(OptimizerConstant<BNB_LION>{}); break;
    default: body(OptimizerConstant<BNB_ADEMAMIX>{}); break;
  }
}

BNB_INLINE void report_nonfinite(const OptimizerKernelArgs &args, Ints largest_magnitude) {
  if (args.found_nonfinite && reduce_max_uint(largest_magnitude) >= kInfinite) {
    __atomic_store_n(args.found_nonfinite, 1, __ATOMIC_RELAXED);
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_OPTIMIZER_STEP_H_
