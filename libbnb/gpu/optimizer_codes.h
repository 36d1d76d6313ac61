// SPDX-License-Identifier: MIT
// Optimizer states in 8 bits: what their codes mean, their new absmax, and the codes of new states.
#ifndef BNB_GPU_OPTIMIZER_CODES_H_
#define BNB_GPU_OPTIMIZER_CODES_H_

#include "gpu/nearest_code.h"
#include "gpu/optimizer_step.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {

using Codes = Items<uint8_t, kFour>;

BNB_DEVICE float absmax_of(uint32_t magnitude) {
  return formats::float_from_bits(magnitude_bits(formats::float_from_bits(magnitude)));
}

struct Absmax {
  float first = 0.0f, second = 0.0f, slow = 0.0f;
};

template <bnb_optimizer kOptimizer>
BNB_DEVICE Absmax load_absmax(const StepTensor &tensor, int64_t block) {
  Absmax absmax;
  absmax.first = load<float>(tensor.absmax1, block);
  if constexpr (Formula<kOptimizer>::kSecond) absmax.second = load<float>(tensor.absmax2, block);
  if constexpr (Formula<kOptimizer>::kSlow) absmax.slow = load<float>(tensor.absmax1, tensor.blocks + block);
  return absmax;
}

template <bnb_optimizer kOptimizer>
BNB_DEVICE void store_absmax(const StepTensor &tensor, int64_t block, const Absmax &absmax) {
  store<float>(tensor.absmax1, block, absmax.first);
  if constexpr (Formula<kOptimizer>::kSecond) store<float>(tensor.absmax2, block, absmax.second);
  if constexpr (Formula<kOptimizer>::kSlow) store<float>(tensor.absmax1, tensor.blocks + block, absmax.slow);
}

// The codes of four elements.
struct CodesOfStates {
  Codes first{}, second{}, slow{};
};

template <bnb_optimizer kOptimizer>
BNB_DEVICE CodesOfStates load_codes(const StepTensor &tensor, int64_t i, int count) {
  CodesOfStates codes;
  codes.first = load_some<uint8_t>(tensor.state1, i, count);
  if constexpr (Formula<kOptimizer>::kSecond) codes.second = load_some<uint8_t>(tensor.state2, i, count);
  if constexpr (Formula<kOptimizer>::kSlow) codes.slow = load_some<uint8_t>(tensor.state1, tensor.n + i, count);
  return codes;
}

// Those of elements i + begin to i + end.
template <bnb_optimizer kOptimizer>
BNB_DEVICE void store_codes(const StepTensor &tensor, int64_t i, int begin, int end, const CodesOfStates &codes) {
  using Is = Formula<kOptimizer>;
  if (begin == 0) {
    store_some<uint8_t>(tensor.state1, i, end, codes.first);
    if constexpr (Is::kSecond) store_some<uint8_t>(tensor.state2, i, end, codes.second);
    if constexpr (Is::kSlow) store_some<uint8_t>(tensor.state1, tensor.n + i, end, codes.slow);
    return;
  }
  BNB_UNROLL
  for (int j = 1; j < kFour; ++j) {
    if (j < begin || j >= end) continue;
    store<uint8_t>(tensor.state1, i + j, codes.first.at[j]);
    if constexpr (Is::kSecond) store<uint8_t>(tensor.state2, i + j, codes.second.at[j]);
    if constexpr (Is::kSlow) store<uint8_t>(tensor.state1, tensor.n + i + j, codes.slow.at[j]);
  }
}

// What the codes of a tensor mean: in shared memory, until a tensor comes that has others.
class Maps {
 public:
  struct Shared {
    float first[256], second[256];
  };
  BNB_DEVICE_METHOD explicit Maps(Shared &shared) : shared_(shared) {}

  BNB_DEVICE_METHOD bool knows(const StepTensor &tensor) const {
    return tensor.qmap1 == first_ && tensor.qmap2 == second_;
  }
  // All threads, with a barrier before and after.
  BNB_DEVICE_METHOD void fill(const StepTensor &tensor) {
    for (int i = int(thread_index()); i < 256; i += int(thread_count())) {
      shared_.first[i] = load<float>(tensor.qmap1, i);
      if (tensor.qmap2) shared_.second[i] = load<float>(tensor.qmap2, i);
    }
    first_ = tensor.qmap1;
    second_ = tensor.qmap2;
  }

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD StepState decode(const CodesOfStates &codes, int j, const Absmax &absmax) const {
    StepState state;
    state.first = shared_.first[codes.first.at[j]] * absmax.first;
    if constexpr (Formula<kOptimizer>::kSecond) state.second = shared_.second[codes.second.at[j]] * absmax.second;
    if constexpr (Formula<kOptimizer>::kSlow) state.slow = shared_.first[codes.slow.at[j]] * absmax.slow;
    return state;
  }

 private:
  Shared &shared_;
  const void *first_ = nullptr, *second_ = nullptr;
};

// The maps, and the way back.
template <bool kSecond>
struct Searches {
  Maps::Shared maps;
  NearestCode nearest[kSecond ? 2 : 1];

  BNB_DEVICE_METHOD void use(const StepTensor &tensor, Maps &known) {
    if (known.knows(tensor)) return;
    barrier();  // nobody looks into the old ones any more
    known.fill(tensor);
    nearest[0].fill(tensor.qmap1);
    if constexpr (kSecond) nearest[1].fill(tensor.qmap2);
    barrier();
  }
};

// The states of one block as codes.
class Encoder {
 public:
  BNB_DEVICE_METHOD Encoder(const NearestCode &nearest, float absmax)
      : nearest_(nearest), absmax_(absmax), reciprocal_(1.0f / absmax) {
    const uint32_t bits = formats::bits_from_float(reciprocal_);
    usual_ = bits > 0 && bits < kInfinityBits && nearest.dense == 0;
  }
  BNB_DEVICE_METHOD Codes operator()(const float *x) const {
    Codes codes;
    if (usual_) {
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) codes.at[j] = uint8_t(nearest_.look_up(x[j] * reciprocal_));
    } else {
      const Normaliser unit(absmax_);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) codes.at[j] = uint8_t(nearest_.search(unit(x[j])));
    }
    return codes;
  }

 private:
  const NearestCode &nearest_;
  float absmax_, reciprocal_;
  bool usual_;
};

template <bnb_optimizer kOptimizer>
class StateEncoder {
  using Is = Formula<kOptimizer>;

 public:
  BNB_DEVICE_METHOD StateEncoder(const Searches<Is::kSecond> &searches, const Absmax &absmax)
      : first_(searches.nearest[0], absmax.first),
        second_(searches.nearest[Is::kSecond], absmax.second),
        slow_(searches.nearest[0], absmax.slow) {}

  BNB_DEVICE_METHOD CodesOfStates operator()(const StepState *states) const {
    float first[kFour], second[kFour], slow[kFour];
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      first[j] = states[j].first;
      second[j] = states[j].second;
      slow[j] = states[j].slow;
    }
    CodesOfStates codes;
    codes.first = first_(first);
    if constexpr (Is::kSecond) codes.second = second_(second);
    if constexpr (Is::kSlow) codes.slow = slow_(slow);
    return codes;
  }

 private:
  Encoder first_, second_, slow_;  // the last two: where there are such states
};

// Bits of the largest magnitudes, and whether an element moved. The bits of a NaN are above infinity's; absmax has but one NaN.
struct Largest {
  uint32_t first = 0, second = 0, slow = 0, moved = 0;

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void add(const StepState &state, bool moved_too) {
    raise(&first, state.first);
    if constexpr (Formula<kOptimizer>::kSecond) raise(&second, state.second);
    if constexpr (Formula<kOptimizer>::kSlow) raise(&slow, state.slow);
    moved |= uint32_t(moved_too);
  }
  // Of `threads` neighbouring threads.
  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void gather(int threads, bool skips, uint32_t *maxima) {
    first = largest_among(first, threads, maxima);
    if constexpr (Formula<kOptimizer>::kSecond) second = largest_among(second, threads, maxima);
    if constexpr (Formula<kOptimizer>::kSlow) slow = largest_among(slow, threads, maxima);
    if (skips) moved = largest_among(moved, threads, maxima);
  }
  BNB_DEVICE_METHOD Absmax absmax() const {
    return {absmax_of(first), absmax_of(second), absmax_of(slow)};
  }

 private:
  BNB_DEVICE_METHOD static void raise(uint32_t *largest, float x) {
    const uint32_t bits = formats::bits_from_float(x) & 0x7FFFFFFFu;
    *largest = bits > *largest ? bits : *largest;
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_OPTIMIZER_CODES_H_
