// SPDX-License-Identifier: MIT
// Codes of quantized weights as fp32 numbers, eight at a time: 4-bit ones by a table in shared memory, FP8 by moving bits.
//
// A format is a class with
//   kBytes                     of eight codes
//   Table, fill(table, type)   what a block keeps in shared memory; every thread fills its share, a barrier comes after
//   Codes                      eight codes as they are loaded
//   load_codes(b, i, n)        codes i .. i + 7 of n, i any; zero bits for those past the end
//   decode(table, codes, w)    their values
#ifndef BNB_GPU_WEIGHTS_H_
#define BNB_GPU_WEIGHTS_H_

#include "formats/e2m1.h"
#include "formats/fp4.h"
#include "formats/nf4.h"
#include "gpu/scales.h"

namespace bnb::gpu {

// Elements i .. i + 7 of an array.
template <typename Tag>
BNB_DEVICE void load_eight(const void *array, int64_t i, float *x) {
  using T = typename Tag::Storage;
  constexpr int kTogether = 16 / int(sizeof(T));
  BNB_UNROLL
  for (int j = 0; j < 8; j += kTogether) {
    const Items<T, kTogether> items = load_items<T, kTogether>(array, i + j);
    BNB_UNROLL
    for (int k = 0; k < kTogether; ++k) x[j + k] = Tag::widen(items.at[k]);
  }
}

BNB_DEVICE float value_of_nibble(bnb_quant_type type, uint32_t code) {
  switch (type) {
    case BNB_NF4: return formats::nf4::decode(uint8_t(code));
    case BNB_FP4: return formats::fp4::decode(uint8_t(code));
    default: return formats::e2m1::decode(uint8_t(code));
  }
}

BNB_INLINE bool low_nibble_first(bnb_quant_type type) { return type == BNB_MXFP4 || type == BNB_NVFP4; }

// NF4, FP4 and E2M1. Each of 32 lanes has a table of its own, so that no two of them want the same bank.
struct Nibbles {
  static constexpr int kBytes = 4;
  struct Table {
    float values[16 * 32];
    bool low_first;
  };
  using Codes = uint32_t;

  static BNB_DEVICE_METHOD void fill(Table &table, bnb_quant_type type) {
    for (uint32_t i = thread_index(); i < 16 * 32; i += thread_count()) table.values[i] = value_of_nibble(type, i / 32);
    if (thread_index() == 0) table.low_first = low_nibble_first(type);
  }
  static BNB_DEVICE_METHOD Codes load_codes(const uint8_t *b, int64_t i, int64_t n) {
    const uint8_t *place = b + i / 2;
    const int64_t bytes = n - n / 2 - i / 2;
    if (i % 2 == 0 && bytes >= 4) return load<uint32_t>(place, 0);
    uint64_t five = 0;
    for (int j = 0; j < 5; ++j) five |= uint64_t(j < bytes ? place[j] : 0) << (8 * j);
    if (i % 2 == 0) return uint32_t(five);
    uint32_t codes = 0;  // the first one is in the low half of its byte
    for (int j = 0; j < 8; ++j) {
      const uint32_t byte = uint32_t(five >> ((j + 1) / 2 * 8)) & 0xFFu;
      codes |= ((j + 1) % 2 ? byte & 15 : byte >> 4) << (j / 2 * 8 + (j % 2 ? 0 : 4));
    }
    return codes;
  }
  static BNB_DEVICE_METHOD void decode(const Table &table, Codes codes, float *w) {
    if (table.low_first) codes = ((codes & 0x0F0F0F0Fu) << 4) | ((codes >> 4) & 0x0F0F0F0Fu);
    const uint32_t lane = lane_index() % 32;
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int shift = j / 2 * 8 + (j % 2 ? 0 : 4);
      w[j] = table.values[(((codes >> shift) & 15u) * 32) | lane];
    }
  }
};

struct EightBytes {
  uint32_t at[2];
};

struct Bytes {
  static constexpr int kBytes = 8;
  struct Table {};
  using Codes = EightBytes;

  static BNB_DEVICE_METHOD void fill(Table &, bnb_quant_type) {}
  static BNB_DEVICE_METHOD Codes load_codes(const uint8_t *b, int64_t i, int64_t n) {
    if (i + 8 <= n) {
      const Items<uint32_t, 2> items = load_items<uint32_t, 2>(b + i, 0);
      return {{items.at[0], items.at[1]}};
    }
    Codes codes{};
    for (int j = 0; j < 8; ++j) codes.at[j / 4] |= uint32_t(i + j < n ? b[i + j] : 0) << (j % 4 * 8);
    return codes;
  }
};

struct E4M3Codes : Bytes {
  static BNB_DEVICE_METHOD void decode(const Table &, Codes codes, float *w) {
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = e4m3_to_float((codes.at[j / 4] >> (j % 4 * 8)) & 0xFFu);
  }
};

struct E5M2Codes : Bytes {
  static BNB_DEVICE_METHOD void decode(const Table &, Codes codes, float *w) {
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) {  // the upper half of an fp16
      w[j] = F16::widen(uint16_t((j % 4 ? codes.at[j / 4] >> (j % 4 * 8 - 8) : codes.at[j / 4] << 8) & 0xFF00u));
    }
  }
};

}  // namespace bnb::gpu

#endif  // BNB_GPU_WEIGHTS_H_
