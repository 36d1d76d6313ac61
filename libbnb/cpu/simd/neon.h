// SPDX-License-Identifier: MIT
// The words of words.h in NEON (AArch64): eight lanes, two registers of four.
#ifndef BNB_CPU_SIMD_NEON_H_
#define BNB_CPU_SIMD_NEON_H_

#include <arm_neon.h>

#include "cpu/simd/search_path.h"

namespace bnb::cpu::BNB_ISA {
namespace {

struct Floats {
  float32x4_t low, high;
};
struct Ints {
  uint32x4_t low, high;
};
struct Mask {
  uint32x4_t low, high;  // all ones or all zeros
};
constexpr int kLanes = 8;

BNB_INLINE Floats splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
BNB_INLINE Ints splat_bits(uint32_t u) { return {vdupq_n_u32(u), vdupq_n_u32(u)}; }
BNB_INLINE Ints splat_int(int32_t i) { return splat_bits(uint32_t(i)); }
BNB_INLINE Ints iota_int() {
  const uint32x4_t low = vcombine_u32(vcreate_u32(uint64_t(1) << 32), vcreate_u32((uint64_t(3) << 32) | 2));
  return {low, vaddq_u32(low, vdupq_n_u32(4))};
}
BNB_INLINE Ints bits(Floats x) { return {vreinterpretq_u32_f32(x.low), vreinterpretq_u32_f32(x.high)}; }
BNB_INLINE Floats from_bits(Ints v) { return {vreinterpretq_f32_u32(v.low), vreinterpretq_f32_u32(v.high)}; }

BNB_INLINE Floats add(Floats a, Floats b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
BNB_INLINE Floats sub(Floats a, Floats b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
BNB_INLINE Floats mul(Floats a, Floats b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
BNB_INLINE Floats div(Floats a, Floats b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
BNB_INLINE Floats fma(Floats a, Floats b, Floats c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
BNB_INLINE Floats sqrt(Floats x) { return {vsqrtq_f32(x.low), vsqrtq_f32(x.high)}; }
BNB_INLINE Floats abs(Floats x) { return {vabsq_f32(x.low), vabsq_f32(x.high)}; }
BNB_INLINE Floats min(Floats a, Floats b) { return {vminq_f32(a.low, b.low), vminq_f32(a.high, b.high)}; }
BNB_INLINE Floats max(Floats a, Floats b) { return {vmaxq_f32(a.low, b.low), vmaxq_f32(a.high, b.high)}; }
BNB_INLINE Ints round_int(Floats x) {
  return {vreinterpretq_u32_s32(vcvtnq_s32_f32(x.low)), vreinterpretq_u32_s32(vcvtnq_s32_f32(x.high))};
}
BNB_INLINE Floats to_float(Ints v) {
  return {vcvtq_f32_s32(vreinterpretq_s32_u32(v.low)), vcvtq_f32_s32(vreinterpretq_s32_u32(v.high))};
}

BNB_INLINE Ints add_int(Ints a, Ints b) { return {vaddq_u32(a.low, b.low), vaddq_u32(a.high, b.high)}; }
BNB_INLINE Ints sub_int(Ints a, Ints b) { return {vsubq_u32(a.low, b.low), vsubq_u32(a.high, b.high)}; }
BNB_INLINE Ints and_int(Ints a, Ints b) { return {vandq_u32(a.low, b.low), vandq_u32(a.high, b.high)}; }
BNB_INLINE Ints or_int(Ints a, Ints b) { return {vorrq_u32(a.low, b.low), vorrq_u32(a.high, b.high)}; }
BNB_INLINE Ints xor_int(Ints a, Ints b) { return {veorq_u32(a.low, b.low), veorq_u32(a.high, b.high)}; }
BNB_INLINE Ints and_not(Ints a, Ints b) { return {vbicq_u32(a.low, b.low), vbicq_u32(a.high, b.high)}; }
BNB_INLINE Ints select_bits(Ints mask, Ints a, Ints b) {
  return {vbslq_u32(mask.low, a.low, b.low), vbslq_u32(mask.high, a.high, b.high)};
}
BNB_INLINE Ints max_uint(Ints a, Ints b) { return {vmaxq_u32(a.low, b.low), vmaxq_u32(a.high, b.high)}; }
BNB_INLINE Ints min_uint(Ints a, Ints b) { return {vminq_u32(a.low, b.low), vminq_u32(a.high, b.high)}; }
BNB_INLINE Ints add_int_where(Mask m, Ints a, Ints b) {
  return {vaddq_u32(a.low, vandq_u32(m.low, b.low)), vaddq_u32(a.high, vandq_u32(m.high, b.high))};
}
BNB_INLINE Ints sub_or_zero(Ints a, Ints b) { return {vqsubq_u32(a.low, b.low), vqsubq_u32(a.high, b.high)}; }
template <int N>
BNB_INLINE Ints shift_left(Ints v) {
  return {vshlq_n_u32(v.low, N), vshlq_n_u32(v.high, N)};
}
template <int N>
BNB_INLINE Ints shift_right(Ints v) {
  return {vshrq_n_u32(v.low, N), vshrq_n_u32(v.high, N)};
}
template <int N>
BNB_INLINE Ints shift_right_where(Mask m, Ints v) {
  const int32x4_t back = vdupq_n_s32(-N);
  return {vshlq_u32(v.low, vandq_s32(vreinterpretq_s32_u32(m.low), back)),
          vshlq_u32(v.high, vandq_s32(vreinterpretq_s32_u32(m.high), back))};
}
BNB_INLINE uint32_t reduce_max_uint(Ints v) { return vmaxvq_u32(vmaxq_u32(v.low, v.high)); }
BNB_INLINE void reduce_max_uint(Ints a, Ints b, Ints c, Ints d, uint32_t *out) {
  const uint32x4_t ab = vpmaxq_u32(vmaxq_u32(a.low, a.high), vmaxq_u32(b.low, b.high));
  const uint32x4_t cd = vpmaxq_u32(vmaxq_u32(c.low, c.high), vmaxq_u32(d.low, d.high));
  vst1q_u32(out, vpmaxq_u32(ab, cd));
}

BNB_INLINE Floats copy_sign(Floats magnitude, Floats sign) {
  const uint32x4_t magnitude_bits = vdupq_n_u32(0x7FFFFFFFu);
  return {vbslq_f32(magnitude_bits, magnitude.low, sign.low), vbslq_f32(magnitude_bits, magnitude.high, sign.high)};
}

BNB_INLINE Mask greater(Floats a, Floats b) { return {vcgtq_f32(a.low, b.low), vcgtq_f32(a.high, b.high)}; }
BNB_INLINE Mask greater_equal(Floats a, Floats b) { return {vcgeq_f32(a.low, b.low), vcgeq_f32(a.high, b.high)}; }
BNB_INLINE Mask equal(Floats a, Floats b) { return {vceqq_f32(a.low, b.low), vceqq_f32(a.high, b.high)}; }
BNB_INLINE Mask is_nan(Floats x) {
  return {vmvnq_u32(vceqq_f32(x.low, x.low)), vmvnq_u32(vceqq_f32(x.high, x.high))};
}
BNB_INLINE Mask greater_int(Ints a, Ints b) {
  return {vcgtq_s32(vreinterpretq_s32_u32(a.low), vreinterpretq_s32_u32(b.low)),
          vcgtq_s32(vreinterpretq_s32_u32(a.high), vreinterpretq_s32_u32(b.high))};
}
BNB_INLINE Mask greater_uint(Ints a, Ints b) { return {vcgtq_u32(a.low, b.low), vcgtq_u32(a.high, b.high)}; }
BNB_INLINE Mask equal_int(Ints a, Ints b) { return {vceqq_u32(a.low, b.low), vceqq_u32(a.high, b.high)}; }
BNB_INLINE Mask both(Mask m, Mask n) { return {vandq_u32(m.low, n.low), vandq_u32(m.high, n.high)}; }
BNB_INLINE Mask either(Mask m, Mask n) { return {vorrq_u32(m.low, n.low), vorrq_u32(m.high, n.high)}; }
BNB_INLINE Mask but_not(Mask m, Mask n) { return {vbicq_u32(m.low, n.low), vbicq_u32(m.high, n.high)}; }
BNB_INLINE bool any(Mask m) { return vmaxvq_u32(vorrq_u32(m.low, m.high)) != 0; }
BNB_INLINE uint32_t mask_bits(Mask m) {
  const uint32x4_t weights = vcombine_u32(vcreate_u32((uint64_t(2) << 32) | 1), vcreate_u32((uint64_t(8) << 32) | 4));
  return vaddvq_u32(vandq_u32(m.low, weights)) | (vaddvq_u32(vandq_u32(m.high, weights)) << 4);
}
BNB_INLINE Floats select(Mask m, Floats a, Floats b) { return {vbslq_f32(m.low, a.low, b.low), vbslq_f32(m.high, a.high, b.high)}; }
BNB_INLINE Ints select_int(Mask m, Ints a, Ints b) { return {vbslq_u32(m.low, a.low, b.low), vbslq_u32(m.high, a.high, b.high)}; }
BNB_INLINE Mask first_lanes(int64_t count) { return greater_int(splat_int(int32_t(count)), iota_int()); }

BNB_INLINE uint16x8_t narrow_bf16(Floats x) {
  const Ints u = bits(x);
  const Ints odd = and_int(shift_right<16>(u), splat_int(1));
  const Ints rounded = add_int(u, add_int(odd, splat_int(0x7FFF)));
  const Ints quiet = or_int(u, splat_int(0x400000));
  const Ints kept = select_int(is_nan(x), quiet, rounded);
  return vcombine_u16(vshrn_n_u32(kept.low, 16), vshrn_n_u32(kept.high, 16));
}
BNB_INLINE uint16x8_t narrow_fp16(Floats x) {
  return vcombine_u16(vreinterpret_u16_f16(vcvt_f16_f32(x.low)), vreinterpret_u16_f16(vcvt_f16_f32(x.high)));
}
BNB_INLINE Floats widen_bf16(uint16x8_t h) {
  return from_bits({vshll_n_u16(vget_low_u16(h), 16), vshll_n_u16(vget_high_u16(h), 16)});
}
BNB_INLINE Floats widen_fp16(uint16x8_t h) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h))), vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(h)))};
}

// Through bytes: the only loads and stores that promise nothing about alignment.
BNB_INLINE uint8x16_t load_16_bytes(const void *p) { return vld1q_u8(static_cast<const uint8_t *>(p)); }
BNB_INLINE uint16x8_t load_8_words(const void *p) { return vreinterpretq_u16_u8(load_16_bytes(p)); }
BNB_INLINE void store_8_words(void *p, uint16x8_t v) { vst1q_u8(static_cast<uint8_t *>(p), vreinterpretq_u8_u16(v)); }

BNB_INLINE Ints load_int32(const void *p) {
  const uint8_t *bytes = static_cast<const uint8_t *>(p);
  return {vreinterpretq_u32_u8(load_16_bytes(bytes)), vreinterpretq_u32_u8(load_16_bytes(bytes + 16))};
}
BNB_INLINE Ints load_int32_some(const void *p, int64_t count) { return load_int32(Padded<32>(p, count * 4).bytes); }
BNB_INLINE void store_int32(void *p, Ints v) {
  uint8_t *bytes = static_cast<uint8_t *>(p);
  vst1q_u8(bytes, vreinterpretq_u8_u32(v.low));
  vst1q_u8(bytes + 16, vreinterpretq_u8_u32(v.high));
}

template <typename Tag>
BNB_INLINE Floats load(const void *p) {
  if constexpr (Tag::kDType == DType::kF32) return from_bits(load_int32(p));
  if constexpr (Tag::kDType == DType::kF16) return widen_fp16(load_8_words(p));
  if constexpr (Tag::kDType == DType::kBF16) return widen_bf16(load_8_words(p));
}
template <typename Tag>
BNB_INLINE Floats load_some(const void *p, int64_t count) {
  return load<Tag>(Padded<kLanes * int(sizeof(typename Tag::Storage))>(p, count * int(sizeof(typename Tag::Storage))).bytes);
}
template <typename Tag>
BNB_INLINE void store(void *p, Floats x) {
  if constexpr (Tag::kDType == DType::kF32) store_int32(p, bits(x));
  if constexpr (Tag::kDType == DType::kF16) store_8_words(p, narrow_fp16(x));
  if constexpr (Tag::kDType == DType::kBF16) store_8_words(p, narrow_bf16(x));
}
template <typename Tag>
BNB_INLINE void store_some(void *p, Floats x, int64_t count) {
  Padded<kLanes * int(sizeof(typename Tag::Storage))> padded;
  store<Tag>(padded.bytes, x);
  padded.copy_to(p, count * int(sizeof(typename Tag::Storage)));
}
// Arm cores see a run of full-line stores and stop fetching the lines by themselves.
constexpr bool kStreams = false;
BNB_INLINE void stream_line(void *p, const void *from) { std::memcpy(p, from, kLineBytes); }
BNB_INLINE void stream_fence() {}

BNB_INLINE Ints load_uint8(const void *p) {
  const uint16x8_t words = vmovl_u8(vld1_u8(static_cast<const uint8_t *>(p)));
  return {vmovl_u16(vget_low_u16(words)), vmovl_u16(vget_high_u16(words))};
}
BNB_INLINE Ints load_uint8_some(const void *p, int64_t count) { return load_uint8(Padded<8>(p, count).bytes); }
BNB_INLINE Ints load_int8(const void *p) {
  const int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(static_cast<const uint8_t *>(p))));
  return {vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(words))), vreinterpretq_u32_s32(vmovl_s16(vget_high_s16(words)))};
}
BNB_INLINE Ints load_int8_some(const void *p, int64_t count) { return load_int8(Padded<8>(p, count).bytes); }
BNB_INLINE void store_int8(void *p, Ints v) {
  const int16x8_t words =
      vcombine_s16(vqmovn_s32(vreinterpretq_s32_u32(v.low)), vqmovn_s32(vreinterpretq_s32_u32(v.high)));
  vst1_u8(static_cast<uint8_t *>(p), vreinterpret_u8_s8(vqmovn_s16(words)));
}
BNB_INLINE void store_int8_some(void *p, Ints v, int64_t count) {
  Padded<8> padded;
  store_int8(padded.bytes, v);
  padded.copy_to(p, count);
}
BNB_INLINE void store_uint8(void *p, Ints v) {
  vst1_u8(static_cast<uint8_t *>(p), vmovn_u16(vcombine_u16(vmovn_u32(v.low), vmovn_u32(v.high))));
}
BNB_INLINE void store_uint8_some(void *p, Ints v, int64_t count) {
  Padded<8> padded;
  store_uint8(padded.bytes, v);
  padded.copy_to(p, count);
}
BNB_INLINE Ints gather_bits(const uint32_t *table, Ints index) {
  uint32_t lanes[kLanes];
  store_int32(lanes, index);
  for (int i = 0; i < kLanes; ++i) lanes[i] = table[lanes[i]];
  return load_int32(lanes);
}
BNB_INLINE Floats gather(const float *table, Ints index) {
  return from_bits(gather_bits(reinterpret_cast<const uint32_t *>(table), index));
}

using Shorts = uint16x8_t;
BNB_INLINE Shorts load_int8_shorts(const void *p) {
  return vreinterpretq_u16_s16(vmovl_s8(vreinterpret_s8_u8(vld1_u8(static_cast<const uint8_t *>(p)))));
}
BNB_INLINE Shorts load_int8_shorts_some(const void *p, int64_t count) { return load_int8_shorts(Padded<8>(p, count).bytes); }
BNB_INLINE Shorts splat_shorts(uint16_t u) { return vdupq_n_u16(u); }
BNB_INLINE Shorts and_shorts(Shorts a, Shorts b) { return vandq_u16(a, b); }
BNB_INLINE Shorts or_shorts(Shorts a, Shorts b) { return vorrq_u16(a, b); }
BNB_INLINE Shorts equal_shorts(Shorts a, Shorts b) { return vceqq_u16(a, b); }
template <int N>
BNB_INLINE Shorts shift_left_shorts(Shorts v) {
  return vshlq_n_u16(v, N);
}
BNB_INLINE Shorts shift_left_shorts_by(Shorts v, int count) { return vshlq_u16(v, vdupq_n_s16(int16_t(count))); }
BNB_INLINE Shorts load_nibble_shorts(const void *p) {
  const uint32x4_t byte = vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bnb::load<uint32_t>(p, 0))))));
  return vreinterpretq_u16_u32(vorrq_u32(byte, vshlq_n_u32(byte, 12)));
}

struct Bytes {
  uint8x16_t low, high;
};
BNB_INLINE uint8x16_t lowest_bytes(Ints a, Ints b) {
  return vuzp1q_u8(vreinterpretq_u8_u16(vcombine_u16(vmovn_u32(a.low), vmovn_u32(a.high))),
                   vreinterpretq_u8_u16(vcombine_u16(vmovn_u32(b.low), vmovn_u32(b.high))));
}
BNB_INLINE Bytes pack_uint8(Ints a, Ints b, Ints c, Ints d) { return {lowest_bytes(a, b), lowest_bytes(c, d)}; }
BNB_INLINE Bytes pack_int8(Ints a, Ints b, Ints c, Ints d) { return pack_uint8(a, b, c, d); }
BNB_INLINE void store_bytes(void *p, Bytes v) {
  vst1q_u8(static_cast<uint8_t *>(p), v.low);
  vst1q_u8(static_cast<uint8_t *>(p) + 16, v.high);
}
BNB_INLINE void store_nibbles(void *p, Bytes v) {
  vst1q_u8(static_cast<uint8_t *>(p), vsliq_n_u8(vuzp1q_u8(v.low, v.high), vuzp2q_u8(v.low, v.high), 4));
}

using Halves = uint16x8_t;
constexpr int kHalfLanes = 8;
BNB_INLINE Halves load_halves(const void *p) { return load_8_words(p); }
BNB_INLINE Halves load_halves_some(const void *p, int64_t count) { return load_8_words(Padded<16>(p, count * 2).bytes); }
BNB_INLINE Halves splat_halves(uint16_t u) { return vdupq_n_u16(u); }
BNB_INLINE Halves and_halves(Halves a, Halves b) { return vandq_u16(a, b); }
BNB_INLINE Halves max_halves(Halves a, Halves b) { return vmaxq_u16(a, b); }
BNB_INLINE Ints fold_halves(Halves v) { return {vmovl_u16(vget_low_u16(v)), vmovl_u16(vget_high_u16(v))}; }

struct NibbleCoder {
  float32x4_t first, second[2];
  uint8x16_t third, code_of_path;
  uint8x16x2_t fourth;
};
BNB_INLINE NibbleCoder make_nibble_coder(const NibblePlan &plan) {
  return {vdupq_n_f32(plan.first),
          {vdupq_n_f32(plan.second[0]), vdupq_n_f32(plan.second[1])},
          load_16_bytes(plan.third),
          load_16_bytes(plan.code_of_path),
          {{load_16_bytes(plan.fourth), load_16_bytes(plan.fourth + 4)}}};
}
// Four times the path, in the lowest byte: a path is kept as the indices of the four bytes of an entry of the next table.
BNB_INLINE uint32x4_t search_path(const NibbleCoder &coder, float32x4_t x) {
  const auto bit_of_path = [](uint32x4_t mask, uint32_t bit) { return vandq_u32(mask, vdupq_n_u32(bit * 0x04040404u)); };
  const auto above = [&](uint8x16_t threshold) { return vcgtq_f32(x, vreinterpretq_f32_u8(threshold)); };
  const uint32x4_t m1 = vcgtq_f32(x, coder.first);
  const uint32x4_t m2 = vcgtq_f32(x, vbslq_f32(m1, coder.second[1], coder.second[0]));
  uint32x4_t path = vorrq_u32(vorrq_u32(bit_of_path(m1, 1), bit_of_path(m2, 2)), vdupq_n_u32(0x03020100u));
  path = vorrq_u32(path, bit_of_path(above(vqtbl1q_u8(coder.third, vreinterpretq_u8_u32(path))), 4));
  return vorrq_u32(path, bit_of_path(above(vqtbl2q_u8(coder.fourth, vreinterpretq_u8_u32(path))), 8));
}
BNB_INLINE uint8x16_t nibbles(const NibbleCoder &coder, Floats x, Floats y) {
  const auto words = [&](Floats z) {
    return vcombine_u16(vmovn_u32(search_path(coder, z.low)), vmovn_u32(search_path(coder, z.high)));
  };
  const uint8x16_t paths = vshrq_n_u8(vcombine_u8(vmovn_u16(words(x)), vmovn_u16(words(y))), 2);
  return vqtbl1q_u8(coder.code_of_path, paths);
}
BNB_INLINE void encode_nibbles(const NibbleCoder &coder, const Floats (&x)[4], void *out) {
  const uint8x16_t a = nibbles(coder, x[0], x[1]), b = nibbles(coder, x[2], x[3]);
  vst1q_u8(static_cast<uint8_t *>(out), vsliq_n_u8(vuzp2q_u8(a, b), vuzp1q_u8(a, b), 4));
}
BNB_INLINE void encode_nibbles_some(const NibbleCoder &coder, const Floats (&x)[4], void *out, int64_t count) {
  Padded<16> padded;
  encode_nibbles(coder, x, padded.bytes);
  padded.copy_to(out, (count + 1) / 2);
}

// Byte i of every value: a byte table looks one of them up for 16 codes at once.
template <typename Tag>
struct NibbleTable {
  static constexpr int kCount = 32;
  uint8x16x2_t planes;
};
template <>
struct NibbleTable<F32> {
  static constexpr int kCount = 32;
  uint8x16x4_t planes;
};
template <typename Tag>
BNB_INLINE NibbleTable<Tag> make_nibble_table(const void *codebook, float scale) {
  const char *from = static_cast<const char *>(codebook);
  uint8_t values[16 * sizeof(typename Tag::Storage)];
  store<Tag>(values, mul(load<F32>(from), splat(scale)));
  store<Tag>(values + kLanes * sizeof(typename Tag::Storage), mul(load<F32>(from + kLanes * 4), splat(scale)));
  if constexpr (Tag::kDType == DType::kF32) {
    return {vld4q_u8(values)};
  } else {
    return {vld2q_u8(values)};
  }
}
template <typename Tag>
BNB_INLINE void expand_nibbles(const NibbleTable<Tag> &table, const void *p, void *out) {
  constexpr int kSize = int(sizeof(typename Tag::Storage));
  const uint8x16_t packed = load_16_bytes(p);
  const uint8x16_t even = vshrq_n_u8(packed, 4), odd = vandq_u8(packed, vdupq_n_u8(15));
  const uint8x16_t codes[2] = {vzip1q_u8(even, odd), vzip2q_u8(even, odd)};
  for (int half = 0; half < 2; ++half) {
    uint8_t *to = static_cast<uint8_t *>(out) + half * 16 * kSize;
    const auto plane = [&](int i) { return vqtbl1q_u8(table.planes.val[i], codes[half]); };
    if constexpr (Tag::kDType == DType::kF32) {
      vst4q_u8(to, {{plane(0), plane(1), plane(2), plane(3)}});
    } else {
      vst2q_u8(to, {{plane(0), plane(1)}});
    }
  }
}
template <typename Tag>
BNB_INLINE void expand_nibbles_some(const NibbleTable<Tag> &table, const void *p, void *out, int64_t count) {
  constexpr int kSize = int(sizeof(typename Tag::Storage));
  Padded<NibbleTable<Tag>::kCount * kSize> padded;
  expand_nibbles(table, Padded<NibbleTable<Tag>::kCount / 2>(p, (count + 1) / 2).bytes, padded.bytes);
  padded.copy_to(out, count * kSize);
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_NEON_H_
