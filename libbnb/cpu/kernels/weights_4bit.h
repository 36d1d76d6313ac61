// SPDX-License-Identifier: MIT
// NF4 and FP4 weights for the methods of products: what their codes are, and how they are decoded for tiles and piece by piece.
#ifndef BNB_CPU_KERNELS_WEIGHTS_4BIT_H_
#define BNB_CPU_KERNELS_WEIGHTS_4BIT_H_

#include "cpu/kernels/nibble_lookups.h"
#include "formats/fp4.h"
#include "formats/nf4.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Three quarters of FP4's values are bf16 numbers, which the values are not.
struct Nf4AndFp4Codes {
  static constexpr int kFirst = 1;
  static constexpr bool kFactor = true;
  static BNB_INLINE const uint32_t *codebook(bnb_quant_type quant_type) {
    return quant_type == BNB_NF4 ? formats::nf4::kCodeBits : formats::fp4::kCodeBits;
  }
  static BNB_INLINE float share(bnb_quant_type quant_type) { return quant_type == BNB_FP4 ? 0.75f : 1.0f; }
};

#if defined(BNB_HAS_BF16_PRODUCTS)
// As rows of tiles, each codebook * scale rounded once.
struct NibbleTiles {
  static constexpr int64_t kGroup = NibbleLoad::kGroup, kGroupTiles = 4;
  using Table = Floats;
  static BNB_INLINE Table table(const GemmArgs &args) { return load<F32>(Nf4AndFp4Codes::codebook(args.quant_type)); }

  static BNB_INLINE bool fits(const GemmArgs &args) {
    return args.k % args.blocksize == 0 && args.blocksize % 32 == 0 &&
           (args.blocksize % kGroup == 0 || kGroup % args.blocksize == 0);
  }
  static BNB_INLINE Waiting waiting(const GemmArgs &) { return Waiting::kNothing; }
  static BNB_INLINE bool exact(const GemmArgs &) { return false; }

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
  using FloatLookup = NibbleFloatLookup<Nf4AndFp4Codes>;
  static constexpr bool kPieces = true;

  static BNB_INLINE void decode_pieces(const GemmArgs &args, int64_t row, int64_t k0, int64_t k1, float *out) {
    constexpr int64_t kCount = NibbleTable<F32>::kCount;
    const uint32_t *codebook = Nf4AndFp4Codes::codebook(args.quant_type);
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
