// SPDX-License-Identifier: MIT
// Look-ups of 4-bit codes for the methods of products (gemm_methods.h), of any sixteen values.
//
// A load brings eight codes in each 32-bit lane, which are looked up where they lie, one or two per 32-bit lane at a
// time. What the codes are is a class with
//   kFirst                    the nibble of a byte that its first element is in: 0 for the low one, 1 for the high one
//   codebook(quant_type)      the fp32 bits of sixteen values
//   kFactor, share(quant_type)    whether the values are multiplied with a share to be numbers of bf16, and with which
#ifndef BNB_CPU_KERNELS_NIBBLE_LOOKUPS_H_
#define BNB_CPU_KERNELS_NIBBLE_LOOKUPS_H_

#include "cpu/kernels/gemm_methods.h"

namespace bnb::cpu::BNB_ISA {
namespace {

struct NibbleLoad {
  static constexpr int64_t kGroup = 8 * kLanes, kGroupBytes = 4 * kLanes, kLaneCodes = 8, kPart = 8;
  using Group = Ints;
  template <typename Table>
  static BNB_INLINE Group read(const Table &, const uint8_t *p) {
    return load_int32(p);
  }
  template <typename Table>
  static BNB_INLINE Group read_some(const Table &, const uint8_t *p, int64_t count) {
    return load_int32_some(p, count / 8);
  }
};

// Weights as fp32, one of each 32-bit lane per step.
template <typename Codes>
struct NibbleFloatLookup : NibbleLoad {
  static constexpr int kSteps = 8, kLanesPerStep = kLanes;
  static constexpr bool kFactor = false;
  using Activation = F32;
  using Table = NibbleFloats;
  static BNB_INLINE Table table(bnb_quant_type quant_type) { return make_nibble_floats(Codes::codebook(quant_type)); }
  static constexpr int element(int step, int lane) { return 8 * lane + (step ^ Codes::kFirst); }
  template <int kStep>
  static BNB_INLINE Floats weights(const Table &table, Ints group) {
    return look_up<kStep>(table, group);
  }
  static BNB_INLINE Floats dot(Floats weights, const char *p, Floats sums) { return fma(weights, load<F32>(p), sums); }
};

#if defined(BNB_HAS_BF16_PRODUCTS)
// As bf16, two of each 32-bit lane per step.
template <typename Codes>
struct NibblePairLookup : NibbleLoad {
  static constexpr int kSteps = 4, kLanesPerStep = 2 * kLanes;
  static constexpr bool kFactor = Codes::kFactor;
  using Activation = BF16;
  struct Table {
    NibblePairs pairs;
    float factor;
  };
  static BNB_INLINE Table table(bnb_quant_type quant_type) {
    const float share = Codes::share(quant_type);
    return {make_nibble_pairs(Codes::codebook(quant_type), share), 1.0f / share};
  }
  static constexpr int element(int step, int lane) { return 4 * lane + (step ^ Codes::kFirst); }
  template <int kStep>
  static BNB_INLINE Pairs weights(const Table &table, Ints group) {
    return look_up<kStep>(table.pairs, group);
  }
  static BNB_INLINE Floats dot(Pairs weights, const char *p, Floats sums) { return dot_pairs(weights, p, sums); }
};
#endif

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_NIBBLE_LOOKUPS_H_
