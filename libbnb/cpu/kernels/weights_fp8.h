// SPDX-License-Identifier: MIT
// FP8 weights, those of MXFP8 among them, for the methods of products: their look-ups, and how they are decoded for tiles. All values
// of E4M3FN and E5M2 are values of bf16, too, and so are they times a power of two, which the scales of MX are.
#ifndef BNB_CPU_KERNELS_WEIGHTS_FP8_H_
#define BNB_CPU_KERNELS_WEIGHTS_FP8_H_

#include "cpu/kernels/gemm_methods.h"
#include "formats/fp8.h"

namespace bnb::cpu::BNB_ISA {
namespace {

#if defined(BNB_HAS_BF16_PRODUCTS)

// The bf16 values of the codes without their sign.
template <typename Format>
struct Magnitudes {
  uint8_t upper[128], lower[128];
  constexpr Magnitudes() : upper(), lower() {
    for (int code = 0; code < 128; ++code) {
      const uint16_t value = formats::bf16_from_float(formats::fp8::decode<Format>(uint8_t(code)));
      upper[code] = uint8_t(value >> 8);
      lower[code] = uint8_t(value & 0xFF);
    }
  }
};
constexpr Magnitudes<formats::fp8::E4M3FN> kE4M3FN{};
constexpr Magnitudes<formats::fp8::E5M2> kE5M2{};

// A load brings four codes in each 32-bit lane.
struct ByteLoad {
  static constexpr int64_t kGroup = 4 * kLanes, kGroupBytes = kGroup, kLaneCodes = 4, kPart = 1;
  static constexpr bool kFactor = false;
  using Table = BytePairs;
  using Group = TwoPairs;
  static BNB_INLINE Table table(bnb_quant_type quant_type) {
    return quant_type == BNB_FP8_E4M3FN ? make_byte_pairs(kE4M3FN.upper, kE4M3FN.lower)
                                        : make_byte_pairs(kE5M2.upper, kE5M2.lower);
  }
  static BNB_INLINE Group read(const Table &table, const uint8_t *p) { return look_up(table, load_bytes(p)); }
  static BNB_INLINE Group read_some(const Table &table, const uint8_t *p, int64_t count) {
    return look_up(table, load_bytes_some(p, count));
  }
};

// Weights as fp32, one of each 32-bit lane per step.
struct ByteFloatLookup : ByteLoad {
  static constexpr int kSteps = 4, kLanesPerStep = kLanes;
  using Activation = F32;
  static constexpr int element(int step, int lane) { return 4 * lane + step; }
  template <int kStep>
  static BNB_INLINE Floats weights(const Table &, const Group &group) {
    const Pairs pairs = kStep % 2 ? group.odd : group.even;
    return kStep < 2 ? first_of(pairs) : second_of(pairs);
  }
  static BNB_INLINE Floats dot(Floats weights, const char *p, Floats sums) { return fma(weights, load<F32>(p), sums); }
};

// As bf16, two of each 32-bit lane per step.
struct BytePairLookup : ByteLoad {
  static constexpr int kSteps = 2, kLanesPerStep = 2 * kLanes;
  using Activation = BF16;
  static constexpr int element(int step, int lane) { return 2 * lane + step; }
  template <int kStep>
  static BNB_INLINE Pairs weights(const Table &, const Group &group) {
    return kStep ? group.odd : group.even;
  }
  static BNB_INLINE Floats dot(Pairs weights, const char *p, Floats sums) { return dot_pairs(weights, p, sums); }
};

// As rows of tiles. A scale of the whole row waits for the sums, and weights are exact; otherwise each code * scale is
// rounded once, or exact with scales of MX.
struct ByteTiles {
  static constexpr int64_t kGroup = ByteLoad::kGroup, kGroupTiles = 2;
  struct Table {
    BytePairs pairs;
    Ints block_of_lane;
  };
  static BNB_INLINE Table table(const GemmArgs &args) {
    return {ByteLoad::table(args.quant_type), block_of_lane<BytePairLookup>(args.blocksize)};
  }

  static BNB_INLINE bool fits(const GemmArgs &args) { return rows_are_blocks<BytePairLookup>(args); }
  static BNB_INLINE Waiting waiting(const GemmArgs &args) {
    return args.blocksize == args.k ? Waiting::kRowScales : Waiting::kNothing;
  }
  static BNB_INLINE bool exact(const GemmArgs &args) {
    return waiting(args) == Waiting::kRowScales || args.scales.kind == ScaleKind::kE8M0;
  }

  template <int kParts>
  static BNB_INLINE void decode_row(const GemmArgs &args, const Table &table, const Blocks &blocks, int64_t row, int64_t k0,
                                    int64_t k1, int64_t ahead, char *to, int64_t part_stride) {
    const int64_t first = row * blocks.per_row + blocks.first;
    const bool wait = waiting(args) == Waiting::kRowScales;
    float buffer[kScalesAtOnce];
    const char *scales = wait ? nullptr : scales_of(args.scales, first, blocks.count, buffer);
    const int64_t per_load = blocks_share_loads<BytePairLookup>(args) ? kGroup / args.blocksize : 0;
    const uint8_t *w = args.b + row * args.k + k0;
    int64_t left_in_block = blocks.left_in_first;
    if (!wait) prefetch_scales(args.scales, first + ahead / args.blocksize);
    for (int64_t k = k0; k < k1; k += kGroup, w += kGroup, to += kGroupTiles * kTileBytes) {
      prefetch(w + ahead);
      const int64_t left = k1 - k;
      const __m512i codes = left >= kGroup ? load_bytes(w) : load_bytes_some(w, left);
      if (wait) {
        const TwoPairs weights = look_up(table.pairs, codes);
        store_bytes(to, weights.even);
        store_bytes(to + kTileBytes, weights.odd);
      } else if (per_load > 0) {
        const int64_t count = left >= kGroup ? per_load : left / args.blocksize;
        const Floats scale = spread(scales, count, table.block_of_lane);
        scale_bytes<kParts>(table.pairs, select(lanes_below<BytePairLookup>(smaller(left, kGroup)), scale, splat(0.0f)), codes, to,
                            kTileBytes, part_stride);
        scales += per_load * 4;
      } else {
        scale_bytes<kParts>(table.pairs, splat(bnb::load<float>(scales, 0)), codes, to, kTileBytes, part_stride);
        left_in_block -= kGroup;
        if (left_in_block == 0) {
          left_in_block = args.blocksize;
          scales += 4;
        }
      }
    }
  }
};

#else

// As fp32, in their own order. E5M2 is the upper half of a binary16. E4M3FN with its bits in the place of a binary16's is too small by
// the difference of the two exponent biases: the factor of the table.
struct ByteFloatLookup {
  static constexpr int kSteps = 2, kLanesPerStep = kLanes;
  static constexpr int64_t kGroup = kSteps * kLanes, kGroupBytes = kGroup, kLaneCodes = kGroup, kPart = 1;
  static constexpr bool kFactor = true;
  using Activation = F32;
  struct Table {
    int shift;
    Shorts kept, nan;  // the bits of the format; those that a NaN has all of, where the format has it alone
    float factor;
  };
  struct Group {
    Shorts codes[kSteps];
  };
  static BNB_INLINE Table table(bnb_quant_type quant_type) {
    if (quant_type == BNB_FP8_E4M3FN) return {7, splat_shorts(0xBFFF), splat_shorts(0x3F80), 256.0f};
    return {8, splat_shorts(0xFFFF), splat_shorts(0x7F00), 1.0f};
  }
  static constexpr int element(int step, int lane) { return step * kLanes + lane; }
  static BNB_INLINE Group read(const Table &, const uint8_t *p) {
    return {{load_int8_shorts(p), load_int8_shorts(p + kLanes)}};
  }
  static BNB_INLINE Group read_some(const Table &, const uint8_t *p, int64_t count) {
    if (count <= kLanes) return {{load_int8_shorts_some(p, count), splat_shorts(0)}};
    return {{load_int8_shorts(p), load_int8_shorts_some(p + kLanes, count - kLanes)}};
  }
  template <int kStep>
  static BNB_INLINE Floats weights(const Table &table, const Group &group) {
    const Shorts half = and_shorts(shift_left_shorts_by(group.codes[kStep], table.shift), table.kept);
    return widen_fp16(or_shorts(half, equal_shorts(and_shorts(half, table.nan), table.nan)));
  }
  static BNB_INLINE Floats dot(Floats weights, const char *p, Floats sums) { return fma(weights, load<F32>(p), sums); }
};

#endif

struct WeightsFp8 {
  using FloatLookup = ByteFloatLookup;
  static constexpr bool kPieces = true;

  static BNB_INLINE void decode_pieces(const GemmArgs &args, int64_t row, int64_t k0, int64_t k1, float *out) {
    using Lookup = ByteFloatLookup;
    const Lookup::Table table = Lookup::table(args.quant_type);
    int64_t i = row * args.k + k0;
    const int64_t end = row * args.k + k1;
    while (i < end) {
      const int64_t block = i / args.blocksize, left = args.blocksize - i % args.blocksize;
      const int64_t stop = i + smaller(left, end - i);
      const float scale = args.scales.at(block);
      for (; i < stop; i += Lookup::kGroup) {
        const int64_t count = smaller(Lookup::kGroup, stop - i);
        float ordered[Lookup::kGroup];
        decode_group<Lookup>(table, Lookup::read_some(table, args.b + i, count), splat(scale), ordered);
        for (int step = 0; step < Lookup::kSteps; ++step) {
          for (int lane = 0; lane < kLanes; ++lane) {
            const int element = Lookup::element(step, lane);
            if (element < count) out[element] = ordered[step * kLanes + lane];
          }
        }
        out += count;
      }
      i = stop;
    }
  }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_WEIGHTS_FP8_H_
