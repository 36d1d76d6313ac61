// SPDX-License-Identifier: MIT
// The words of words.h for CPUs that also have VBMI, VNNI and BF16: AVX-512 with byte permutes.
#ifndef BNB_CPU_SIMD_AVX512_BF16_H_
#define BNB_CPU_SIMD_AVX512_BF16_H_

#include "cpu/simd/avx512.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// [-1, 1] is cut into 31 intervals, of which none has two thresholds: its number and one comparison say everything.
struct NibblePlan {
  bool by_magnitude;
  float thresholds[32];  // by interval modulo 32; NaN where there is none
  int above;             // added to the interval if x is above its threshold; by magnitude, 32 is added if x < 0
  uint8_t codes[64];     // by the sum modulo 64
};
constexpr float kIntervals = 15.0f, kAligner = 12582912.0f;  // x * kIntervals + 1.5 * 2^23 has the interval in its lowest bits

BNB_INLINE constexpr NibblePlan make_nibble_plan(const NibbleFormat &format) {
  NibblePlan plan{};
  plan.by_magnitude = format.by_magnitude;
  plan.above = format.by_magnitude ? 16 : 32;
  for (int i = 0; i < 32; ++i) plan.thresholds[i] = formats::float_from_bits(0x7FC00000u);
  int rank = format.by_magnitude ? 8 : 0;
  for (int interval = format.by_magnitude ? 0 : -15; interval <= 15; ++interval) {
    plan.codes[interval & 63] = format.codes[rank];
    if (rank < 15) {
      const float threshold = formats::float_from_bits(format.thresholds[rank]);
      if (int(formats::bits_from_float(threshold * kIntervals + kAligner) & 63u) == (interval & 63)) {
        plan.thresholds[interval & 31] = threshold;
        ++rank;
      }
    }
    plan.codes[(interval + plan.above) & 63] = format.codes[rank];
  }
  for (int i = 0; format.by_magnitude && i < 32; ++i) plan.codes[32 + i] = uint8_t(8 | plan.codes[i]);
  return plan;
}

struct NibbleCoder {
  bool by_magnitude;
  Floats intervals, aligner, thresholds[2];
  Ints above, below_zero, codes;
};
BNB_INLINE NibbleCoder make_nibble_coder(const NibblePlan &plan) {
  return {plan.by_magnitude, splat(kIntervals), splat(kAligner),
          {_mm512_loadu_ps(plan.thresholds), _mm512_loadu_ps(plan.thresholds + 16)},
          splat_int(plan.above), splat_int(32), _mm512_loadu_si512(plan.codes)};
}
// In the lowest six bits of a lane.
BNB_INLINE Ints interval_index(const NibbleCoder &coder, Floats x) {
  if (coder.by_magnitude) {
    const Floats magnitude = abs(x);
    const Ints interval = bits(fma(magnitude, coder.intervals, coder.aligner));
    const Ints index =
        add_int_where(greater(magnitude, _mm512_permutexvar_ps(interval, coder.thresholds[0])), interval, coder.above);
    return add_int_where(greater(splat(0.0f), x), index, coder.below_zero);
  }
  const Ints interval = bits(fma(x, coder.intervals, coder.aligner));
  const Floats threshold = _mm512_permutex2var_ps(coder.thresholds[0], interval, coder.thresholds[1]);
  return add_int_where(greater(x, threshold), interval, coder.above);
}
BNB_INLINE __m256i join_nibbles(const NibbleCoder &coder, const Floats (&x)[4]) {
  const Ints low = select_bits(splat_bits(0x00FFu), interval_index(coder, x[0]), shift_left<8>(interval_index(coder, x[1])));
  const Ints high = select_bits(splat_bits(0x00FFFFFFu), shift_left<16>(interval_index(coder, x[2])),
                                shift_left<24>(interval_index(coder, x[3])));
  const Ints codes = _mm512_permutexvar_epi8(select_bits(splat_bits(0xFFFFu), low, high), coder.codes);
  // Byte j of 64-bit lane k is now the byte of elements 2k and 2k + 1 of x[j].
  const Ints pairs = or_int(shift_left<4>(codes), _mm512_srli_epi64(codes, 32));
  const __m256i transpose = _mm256_setr_epi8(0, 8, 16, 24, 32, 40, 48, 56, 1, 9, 17, 25, 33, 41, 49, 57,  //
                                             2, 10, 18, 26, 34, 42, 50, 58, 3, 11, 19, 27, 35, 43, 51, 59);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi8(_mm512_castsi256_si512(transpose), pairs));
}
BNB_INLINE void encode_nibbles(const NibbleCoder &coder, const Floats (&x)[4], void *out) {
  _mm256_storeu_si256(static_cast<__m256i *>(out), join_nibbles(coder, x));
}
BNB_INLINE void encode_nibbles_some(const NibbleCoder &coder, const Floats (&x)[4], void *out, int64_t count) {
  _mm256_mask_storeu_epi8(out, __mmask32((uint64_t(1) << ((count + 1) / 2)) - 1u), join_nibbles(coder, x));
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_AVX512_BF16_H_
