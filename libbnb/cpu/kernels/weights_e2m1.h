// SPDX-License-Identifier: MIT
// E2M1 weights, those of MXFP4 and NVFP4, for the methods of products: what their codes are, and how they are decoded
// for tiles.
//
// Rows are whole blocks of 32 or 16. All values are numbers of bf16, and so are their products with the scales of
// blocks, which have at most four bits: weights are exact, whatever they are multiplied as.
#ifndef BNB_CPU_KERNELS_WEIGHTS_E2M1_H_
#define BNB_CPU_KERNELS_WEIGHTS_E2M1_H_

#include "cpu/kernels/nibble_lookups.h"
#include "formats/e2m1.h"

namespace bnb::cpu::BNB_ISA {
namespace {

struct E2m1Codes {
  static constexpr int kFirst = 0;
  static constexpr bool kFactor = false;
  static BNB_INLINE const uint32_t *codebook(bnb_quant_type) { return formats::e2m1::kCodeBits; }
  static BNB_INLINE float share(bnb_quant_type) { return 1.0f; }
};

#if defined(BNB_HAS_BF16_PRODUCTS)
// As rows of tiles, times the scales of their blocks. The scale of the tensor waits for the sums.
struct E2m1Tiles {
  using Lookup = NibblePairLookup<E2m1Codes>;
  static constexpr int64_t kGroup = Lookup::kGroup, kGroupTiles = Lookup::kSteps;
  struct Table {
    NibblePairs pairs;
    Ints block_of_lane;
  };
  static BNB_INLINE Table table(const GemmArgs &args) {
    return {Lookup::table(args.quant_type).pairs, block_of_lane<Lookup>(args.blocksize)};
  }
  static BNB_INLINE bool fits(const GemmArgs &args) { return rows_are_blocks<Lookup>(args); }
  static BNB_INLINE Waiting waiting(const GemmArgs &args) {
    return args.scales.tensor_scale ? Waiting::kTensorScale : Waiting::kNothing;
  }
  static BNB_INLINE bool exact(const GemmArgs &) { return true; }

  // Tiles have the order of K that NF4 wants, whose first element is in the high nibble: that of nibble t goes to tile
  // t ^ 1.
  template <int kStep = 0>
  static BNB_INLINE void scale_group(const Table &table, Ints group, Floats scale, char *to) {
    if constexpr (kStep < kGroupTiles) {
      scale_pairs<1>(look_up<kStep>(table.pairs, group), scale, to + (kStep ^ 1) * kTileBytes, nullptr);
      scale_group<kStep + 1>(table, group, scale, to);
    }
  }

  template <int kParts>  // a second one would be zeros, which nobody asks for
  static BNB_INLINE void decode_row(const GemmArgs &args, const Table &table, const Blocks &blocks, int64_t row,
                                    int64_t k0, int64_t k1, int64_t ahead, char *to, int64_t) {
    AbsmaxView of_blocks = args.scales;
    of_blocks.tensor_scale = nullptr;
    const int64_t first = row * blocks.per_row + blocks.first, per_load = kGroup / args.blocksize;
    float buffer[kScalesAtOnce];
    const char *scales = scales_of(of_blocks, first, blocks.count, buffer);
    prefetch_scales(args.scales, first + ahead / args.blocksize);
    const uint8_t *w = args.b + (row * args.k + k0) / 2;
    for (int64_t k = k0; k < k1;
         k += kGroup, w += Lookup::kGroupBytes, to += kGroupTiles * kTileBytes, scales += per_load * 4) {
      prefetch(w + ahead / 2);
      const int64_t left = k1 - k;
      if (left >= kGroup) {
        scale_group(table, load_int32(w), spread(scales, per_load, table.block_of_lane), to);
      } else {
        const Floats scale = spread(scales, left / args.blocksize, table.block_of_lane);
        scale_group(table, load_int32_some(w, left / 8), select(lanes_below<Lookup>(left), scale, splat(0.0f)), to);
      }
    }
  }
};
#endif

struct WeightsE2m1 {
  using FloatLookup = NibbleFloatLookup<E2m1Codes>;
  static constexpr bool kPieces = false;
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_WEIGHTS_E2M1_H_
