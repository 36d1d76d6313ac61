// SPDX-License-Identifier: MIT
// The words of products.h in NEON.
#ifndef BNB_CPU_SIMD_NEON_PRODUCTS_H_
#define BNB_CPU_SIMD_NEON_PRODUCTS_H_

#include "cpu/simd/neon.h"
#include "cpu/simd/products.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int kTileRows = 6, kTileVectors = 2, kFewRows = 4;

BNB_INLINE float reduce_add(Floats x) {
  const float32x4_t half = vaddq_f32(x.low, x.high);
  const float32x2_t pair = vadd_f32(vget_low_f32(half), vget_high_f32(half));
  return vget_lane_f32(vpadd_f32(pair, pair), 0);
}

BNB_INLINE void transpose(float32x4_t &a, float32x4_t &b, float32x4_t &c, float32x4_t &d) {
  const float32x4_t ab0 = vtrn1q_f32(a, b), ab1 = vtrn2q_f32(a, b), cd0 = vtrn1q_f32(c, d), cd1 = vtrn2q_f32(c, d);
  a = vcombine_f32(vget_low_f32(ab0), vget_low_f32(cd0));
  b = vcombine_f32(vget_low_f32(ab1), vget_low_f32(cd1));
  c = vcombine_f32(vget_high_f32(ab0), vget_high_f32(cd0));
  d = vcombine_f32(vget_high_f32(ab1), vget_high_f32(cd1));
}
BNB_INLINE void transpose(Floats (&x)[8]) {
  transpose(x[0].low, x[1].low, x[2].low, x[3].low);
  transpose(x[0].high, x[1].high, x[2].high, x[3].high);
  transpose(x[4].low, x[5].low, x[6].low, x[7].low);
  transpose(x[4].high, x[5].high, x[6].high, x[7].high);
  for (int i = 0; i < 4; ++i) {
    const float32x4_t high = x[i].high;
    x[i].high = x[4 + i].low;
    x[4 + i].low = high;
  }
}

// The bytes of 32-bit item `index` of a table.
BNB_INLINE uint8x16_t bytes_of(uint32x4_t index) {
  return vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100u), index, 0x04040404u));
}

BNB_INLINE Floats spread(const char *p, int64_t count, Ints index) {
  const Floats x = load_some<F32>(p, count);
  const uint8x16x2_t table = {{vreinterpretq_u8_f32(x.low), vreinterpretq_u8_f32(x.high)}};
  return {vreinterpretq_f32_u8(vqtbl2q_u8(table, bytes_of(index.low))),
          vreinterpretq_f32_u8(vqtbl2q_u8(table, bytes_of(index.high)))};
}

// Sixteen floats are the 64 bytes that one table look-up reaches.
struct NibbleFloats {
  uint8x16x4_t values;
};
BNB_INLINE NibbleFloats make_nibble_floats(const uint32_t *codebook) {
  const uint8_t *bytes = reinterpret_cast<const uint8_t *>(codebook);
  return {{{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}}};
}
template <int kNibble>
BNB_INLINE Floats look_up(const NibbleFloats &table, Ints v) {
  if constexpr (kNibble > 0) v = shift_right<4 * kNibble>(v);
  v = and_int(v, splat_int(15));
  return {vreinterpretq_f32_u8(vqtbl4q_u8(table.values, bytes_of(v.low))),
          vreinterpretq_f32_u8(vqtbl4q_u8(table.values, bytes_of(v.high)))};
}

BNB_INLINE Ints load_pairs(const void *p) {
  const int8x16_t bytes = vreinterpretq_s8_u8(load_16_bytes(p));
  return {vreinterpretq_u32_s16(vmovl_s8(vget_low_s8(bytes))), vreinterpretq_u32_s16(vmovl_high_s8(bytes))};
}
BNB_INLINE Ints load_pairs_some(const void *p, int64_t count) { return load_pairs(Padded<16>(p, count).bytes); }
BNB_INLINE uint32x4_t add_pair_products(uint32x4_t sums, uint32x4_t a, uint32x4_t b) {
  const int16x8_t x = vreinterpretq_s16_u32(a), y = vreinterpretq_s16_u32(b);
  const int32x4_t pairs = vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
  return vaddq_u32(sums, vreinterpretq_u32_s32(pairs));
}
BNB_INLINE Ints add_pair_products(Ints sums, Ints a, Ints b) {
  return {add_pair_products(sums.low, a.low, b.low), add_pair_products(sums.high, a.high, b.high)};
}

// A 16-bit lane for each byte: products are at most 3 * 128, which 85 times is below 2^15.
struct CodeSums {
  int16x8_t quarter[4];
};
constexpr int kMostCodeProducts = 85;
BNB_INLINE CodeSums begin_code_sums(Ints) {
  const int16x8_t zero = vdupq_n_s16(0);
  return {{zero, zero, zero, zero}};
}
BNB_INLINE CodeSums add_code_products(CodeSums sums, Ints codes, Ints a) {
  const int8x16_t codes_low = vreinterpretq_s8_u32(codes.low), codes_high = vreinterpretq_s8_u32(codes.high);
  const int8x16_t a_low = vreinterpretq_s8_u32(a.low), a_high = vreinterpretq_s8_u32(a.high);
  return {{vmlal_s8(sums.quarter[0], vget_low_s8(codes_low), vget_low_s8(a_low)),
           vmlal_high_s8(sums.quarter[1], codes_low, a_low),
           vmlal_s8(sums.quarter[2], vget_low_s8(codes_high), vget_low_s8(a_high)),
           vmlal_high_s8(sums.quarter[3], codes_high, a_high)}};
}
BNB_INLINE uint32x4_t widen_pairs(int16x8_t low, int16x8_t high) {
  return vreinterpretq_u32_s32(vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}
BNB_INLINE Ints end_code_sums(Ints start, CodeSums sums) {
  return add_int(start, {widen_pairs(sums.quarter[0], sums.quarter[1]), widen_pairs(sums.quarter[2], sums.quarter[3])});
}

template <int kBytes>
BNB_INLINE Ints repeat(const void *p) {
  if constexpr (kBytes == 4) return splat_int(bnb::load<int32_t>(p, 0));
  if constexpr (kBytes == 16) {
    const uint32x4_t half = vreinterpretq_u32_u8(load_16_bytes(p));
    return {half, half};
  }
  if constexpr (kBytes == 32) return load_int32(p);
}
template <int kBytes>
BNB_INLINE Ints join(Ints a, Ints b) {
  static_assert(kBytes == 16, "a register");
  return {a.low, b.high};
}
BNB_INLINE uint32x4_t multiply_bytes(uint32x4_t a, uint32x4_t b) {
  return vreinterpretq_u32_u8(vmulq_u8(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)));
}
BNB_INLINE Ints multiply_bytes(Ints a, Ints b) { return {multiply_bytes(a.low, b.low), multiply_bytes(a.high, b.high)}; }
// 3 * v >> 8 is (v + (v >> 1)) >> 7.
BNB_INLINE uint32x4_t carries_of_3(uint32x4_t v) {
  const uint8x16_t bytes = vreinterpretq_u8_u32(v);
  return vreinterpretq_u32_u8(vshrq_n_u8(vhaddq_u8(bytes, vshrq_n_u8(bytes, 1)), 6));
}
BNB_INLINE Ints carries_of_3(Ints v) { return {carries_of_3(v.low), carries_of_3(v.high)}; }

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_NEON_PRODUCTS_H_
