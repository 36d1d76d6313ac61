// SPDX-License-Identifier: MIT
// NF4 and FP4 weights for the methods of products: their look-ups, and how they are decoded for tiles.
//
// A load brings eight codes in each 32-bit lane (docs/formats.md: the first of a byte is in its high half), which are looked up
// where they lie, one or two per 32-bit lane at a time.
#ifndef BNB_CPU_KERNELS_WEIGHTS_4BIT_H_
#define BNB_CPU_KERNELS_WEIGHTS_4BIT_H_

#include "cpu/kernels/gemm_methods.h"
#include "formats/fp4.h"
#include "formats/nf4.h"

namespace bnb::cpu::BNB_ISA {
namespace {

BNB_INLINE const uint32_t *codebook_of(bnb_quant_type quant_type) {
  return quant_type == BNB_NF4 ? formats::nf4::kCodeBits : formats::fp4::kCodeBits;
}

struct NibbleLoad {
  static constexpr int64_t kGroup = 8 * kLanes, kGroupBytes = 4 * kLanes, kLaneCodes = 8, kPart = 8;
  static constexpr bool kFactor = false;
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
struct NibbleFloatLookup : NibbleLoad {
  static constexpr int kSteps = 8, kLanesPerStep = kLanes;
  using Activation = F32;
  using Table = NibbleFloats;
  static BNB_INLINE Table table(bnb_quant_type quant_type) { return make_nibble_floats(codebook_of(quant_type)); }
  static constexpr int element(int step, int lane) { return 8 * lane + (step ^ 1); }
  template <int kStep>
  static BNB_INLINE Floats weights(const Table &table, Ints group) {
    return look_up<kStep>(table, group);
  }
  static BNB_INLINE Floats dot(Floats weights, const char *p, Floats sums) { return fma(weights, load<F32>(p), sums); }
};

#if defined(BNB_HAS_BF16_PRODUCTS)
// As bf16, two of each 32-bit lane per step. Three quarters of FP4's values are bf16 numbers, which the values are not.
struct NibblePairLookup : NibbleLoad {
  static constexpr int kSteps = 4, kLanesPerStep = 2 * kLanes;
  static constexpr bool kFactor = true;
  using Activation = BF16;
  struct Table {
    NibblePairs pairs;
    float factor;
  };
  static BNB_INLINE Table table(bnb_quant_type quant_type) {
    const float share = quant_type == BNB_FP4 ? 0.75f : 1.0f;
    return {make_nibble_pairs(codebook_of(quant_type), share), 1.0f / share};
  }
  static constexpr int element(int step, int lane) { return 4 * lane + (step ^ 1); }
  template <int kStep>
  static BNB_INLINE Pairs weights(const Table &table, Ints group) {
    return look_up<kStep>(table.pairs, group);
  }
  static BNB_INLINE Floats dot(Pairs weights, const char *p, Floats sums) { return dot_pairs(weights, p, sums); }
};

// As rows of tiles, each codebook * scale rounded once.
struct NibbleTiles {
  static constexpr int64_t kGroup = NibbleLoad::kGroup, kGroupTiles = 4;
  using Table = Floats;
  static BNB_INLINE Table table(const GemmArgs &args) { return load<F32>(codebook_of(args.quant_type)); }

  static BNB_INLINE bool fits(const GemmArgs &args) {
    return args.k % args.blocksize == 0 && args.blocksize % 32 == 0 &&
           (args.blocksize % kGroup == 0 || kGroup % args.blocksize == 0);
  }
  static BNB_INLINE bool scales_wait(const GemmArgs &) { return false; }

  template <int kParts>
  static BNB_INLINE void decode_row(const GemmArgs &args, const Table &codebook, const Blocks &blocks, int64_t row, int64_t k0,
                                    int64_t k1, int64_t ahead, char *to, int64_t part_stride) {
    float buffer[kScalesAtOnce];
    const char *from = scales_of(args.scales, row * blocks.per_row + blocks.first, blocks.count, buffer);
    prefetch_scales(args.scales, row * blocks.per_row + blocks.first + ahead / args.blocksize);
    const uint8_t *w = args.b + (row * args.k + k0) / 2;
    int64_t left_in_block = blocks.left_in_first;
    for (int64_t k = k0; k < k1; k += kGroup, w += NibbleLoad::kGroupBytes, to += kGroupTiles * kTileBytes) {
      prefetch(w + ahead / 2);
      const int64_t left = k1 - k;
      const Ints group = left >= kGroup ? load_int32(w) : load_int32_some(w, left / 8);
      float scales[4];
      BNB_UNROLL for (int i = 0; i < 4; ++i) {
        scales[i] = i * 32 < left ? bnb::load<float>(from, 0) : 0.0f;
        left_in_block -= 32;
        if (left_in_block == 0) {
          left_in_block = args.blocksize;
          from += 4;
        }
      }
      scale_nibbles<kParts>(codebook, scales, group, to, kTileBytes, part_stride);
    }
  }
};
#endif

struct Weights4bit {
  using FloatLookup = NibbleFloatLookup;

  static BNB_INLINE void decode_pieces(const GemmArgs &args, int64_t row, int64_t k0, int64_t k1, float *out) {
    constexpr int64_t kCount = NibbleTable<F32>::kCount;
    const uint32_t *codebook = codebook_of(args.quant_type);
    int64_t i = row * args.k + k0;
    const int64_t end = row * args.k + k1;
    while (i < end) {
      const int64_t block = i / args.blocksize, left = args.blocksize - i % args.blocksize;
      int64_t count = smaller(left, end - i);
      const float scale = args.scales.at(block);
      const NibbleTable<F32> table = make_nibble_table<F32>(codebook, scale);
      if (i % 2) {  // the low half of a byte, whose high half was the row before
        *out++ = formats::float_from_bits(codebook[args.b[i / 2] & 15]) * scale;
        ++i;
        --count;
      }
      for (; count >= kCount; count -= kCount, i += kCount, out += kCount) expand_nibbles(table, args.b + i / 2, out);
      if (count > 0) {
        expand_nibbles_some(table, args.b + i / 2, out, count);
        i += count;
        out += count;
      }
    }
  }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_WEIGHTS_4BIT_H_
