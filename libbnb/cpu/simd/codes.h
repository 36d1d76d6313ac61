// SPDX-License-Identifier: MIT
// Words about 8-bit codes: looking up the values of many codes at once, and the nearest codes of many numbers at once.
//
//   CodeTable table = make_code_table(code)    fp32 [256] at any address
//   look_up_codes(table, p, x)                 the values of kCodesAtOnce codes at p -> Floats x[kCodesAtOnce / kLanes]
//   decode_codes<Tag>(table, p, count, scale, out)   out[i] = value of code p[i] * scale, for count codes
//   with_nearest(search, body)                 body(nearest), where nearest(Floats) -> Ints, 0 .. 255. Lanes must not be NaN
//                                              nor beyond 1 + 2^-7 (kernels/blocks.h divides by absmax first)
#ifndef BNB_CPU_SIMD_CODES_H_
#define BNB_CPU_SIMD_CODES_H_

#include "cpu/code_search.h"

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

#if defined(__AVX512VBMI__)

// Byte b of entries 64 * j .. 64 * j + 63 is plane[b][j]: a look-up is two permutes a plane, for 64 codes.
struct CodeTable {
  __m512i plane[4][4];
};
constexpr int kCodesAtOnce = 64;

template <int kByte>
BNB_INLINE void make_plane(const char *code, __m512i (&plane)[4]) {
  for (int j = 0; j < 4; ++j) {
    alignas(64) unsigned char bytes[64];
    for (int k = 0; k < 4; ++k) {
      const __m512i entries = load_int32(code + (j * 4 + k) * 64);
      _mm_store_si128(reinterpret_cast<__m128i *>(bytes + k * 16), _mm512_cvtepi32_epi8(shift_right<8 * kByte>(entries)));
    }
    plane[j] = _mm512_load_si512(bytes);
  }
}
BNB_INLINE CodeTable make_code_table(const void *code) {
  CodeTable table;
  const char *bytes = static_cast<const char *>(code);
  make_plane<0>(bytes, table.plane[0]);
  make_plane<1>(bytes, table.plane[1]);
  make_plane<2>(bytes, table.plane[2]);
  make_plane<3>(bytes, table.plane[3]);
  return table;
}

BNB_INLINE __m512i look_up_plane(const __m512i (&plane)[4], __m512i codes, __mmask64 upper_half) {
  return _mm512_mask_blend_epi8(upper_half, _mm512_permutex2var_epi8(plane[0], codes, plane[1]),
                                _mm512_permutex2var_epi8(plane[2], codes, plane[3]));
}
BNB_INLINE void look_up_codes(const CodeTable &table, const void *p, Floats (&x)[4]) {
  const __m512i codes = in_order(_mm512_loadu_si512(p));  // so that interleaving the bytes below ends in order
  const __mmask64 upper_half = _mm512_movepi8_mask(codes);
  const __m512i byte0 = look_up_plane(table.plane[0], codes, upper_half);
  const __m512i byte1 = look_up_plane(table.plane[1], codes, upper_half);
  const __m512i byte2 = look_up_plane(table.plane[2], codes, upper_half);
  const __m512i byte3 = look_up_plane(table.plane[3], codes, upper_half);
  const __m512i low01 = _mm512_unpacklo_epi8(byte0, byte1), high01 = _mm512_unpackhi_epi8(byte0, byte1);
  const __m512i low23 = _mm512_unpacklo_epi8(byte2, byte3), high23 = _mm512_unpackhi_epi8(byte2, byte3);
  x[0] = from_bits(_mm512_unpacklo_epi16(low01, low23));
  x[1] = from_bits(_mm512_unpackhi_epi16(low01, low23));
  x[2] = from_bits(_mm512_unpacklo_epi16(high01, high23));
  x[3] = from_bits(_mm512_unpackhi_epi16(high01, high23));
}

#else

struct CodeTable {
  float values[256];
};
constexpr int kCodesAtOnce = kLanes;

BNB_INLINE CodeTable make_code_table(const void *code) {
  CodeTable table;
  std::memcpy(table.values, code, sizeof table.values);
  return table;
}
BNB_INLINE void look_up_codes(const CodeTable &table, const void *p, Floats (&x)[1]) {
  x[0] = gather(table.values, load_uint8(p));
}

#endif

template <typename Tag>
BNB_INLINE void decode_codes(const CodeTable &table, const uint8_t *p, int64_t count, Floats scale, char *out) {
  constexpr int64_t kVectors = kCodesAtOnce / kLanes, kVectorSize = kLanes * int64_t(sizeof(typename Tag::Storage));
  Floats x[kVectors];
  for (; count >= kCodesAtOnce; count -= kCodesAtOnce, p += kCodesAtOnce, out += kVectors * kVectorSize) {
    look_up_codes(table, p, x);
    for (int64_t j = 0; j < kVectors; ++j) store<Tag>(out + j * kVectorSize, mul(x[j], scale));
  }
  if (count == 0) return;
  look_up_codes(table, Padded<kCodesAtOnce>(p, count).bytes, x);
  for (int64_t j = 0; j < kVectors && count > 0; ++j, count -= kLanes, out += kVectorSize) {
    if (count >= kLanes) {
      store<Tag>(out, mul(x[j], scale));
    } else {
      store_some<Tag>(out, mul(x[j], scale), count);
    }
  }
}

// One look-up and one comparison (cpu/code_search.h).
struct NearestByBucket {
  const CodeSearch &search;

  BNB_INLINE Ints operator()(Floats x) const {
    constexpr uint32_t kBelow = uint32_t(CodeSearch::kLowestKey - 1) << 16;  // where bucket 0 begins
    const Ints magnitude = and_int(bits(x), splat_bits(0x7FFFFFFFu));
    const Ints bucket = min_uint(shift_right<16>(sub_or_zero(magnitude, splat_bits(kBelow))), splat_int(CodeSearch::kTopBucket));
    const Mask positive = greater_int(bits(x), splat_int(0));
    const Ints entry = gather_bits(search.entries, add_int_where(positive, bucket, splat_int(CodeSearch::kBucketsPerSign)));
    const Mask beyond = greater_uint(shift_left<16>(magnitude), entry);  // equal upper halves: then the entry is not below
    return and_int(shift_right_where<8>(beyond, entry), splat_int(0xFF));
  }
};

// For codes too dense for that: bisection of the midpoints.
struct NearestByBisection {
  const CodeSearch &search;

  BNB_INLINE Ints operator()(Floats x) const {
    Ints below = splat_int(0);  // at least so many midpoints are below x
    for (int32_t step = 128; step > 0; step /= 2) {
      const Ints further = add_int(below, splat_int(step));
      below = select_int(greater(x, gather(search.midpoints, sub_int(further, splat_int(1)))), further, below);
    }
    return below;
  }
};

template <typename Body>
BNB_INLINE void with_nearest(const CodeSearch &search, const Body &body) {
  if (search.dense) {
    body(NearestByBisection{search});
  } else {
    body(NearestByBucket{search});
  }
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_SIMD_CODES_H_
