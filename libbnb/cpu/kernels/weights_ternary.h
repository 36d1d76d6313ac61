// SPDX-License-Identifier: MIT
// Ternary weights (formats/ternary.h): their layouts, as classes that say where codes and scales are and how to unpack them, and what
// the methods of gemm_int8.h want to know.
//
// A layout has, for few rows of activations, loads of codes that become vectors of 4 * kLanes bytes, one per step, in an order of its own:
//   kGroup, kGroupBytes, kSteps   codes in a load, their bytes, and the vectors that they become
//   read(p), read_some(p, count)  -> Group; the first `count` codes of one, any others behind them
//   codes<kStep>(group)           the codes, 0 .. 3, of a step
//   order(from, to)               kGroup activations in the order of the steps
// and for many rows
//   unpack(args, first, count, to)    weights [first, first + count) of all, as int8 in their own order
// Where codes are: address(args, first), that of a multiple of kWhole; bytes_of(count), those of a multiple, rounded up.
#ifndef BNB_CPU_KERNELS_WEIGHTS_TERNARY_H_
#define BNB_CPU_KERNELS_WEIGHTS_TERNARY_H_

#include "cpu/kernels/gemm_int8.h"
#include "formats/ternary.h"

namespace bnb::cpu::BNB_ISA {
namespace {

using formats::ternary::kBlock;
using formats::ternary::TQ1;
using formats::ternary::TQ2;
using formats::ternary::TwoBits;

BNB_INLINE int8_t *unpack_codes(Ints codes, int8_t *to) {  // one less than the codes, byte by byte: nothing is carried
  store_int32(to, xor_int(add_int(codes, splat_bits(0x7F7F7F7Fu)), splat_bits(0x80808080u)));
  return to + kVectorBytes;
}

// Codes of two bits whose bytes are taken as they lie.
struct TwoBitLoad {
  static constexpr int64_t kSteps = TwoBits::kCodes, kGroup = kSteps * kVectorBytes, kGroupBytes = kVectorBytes;
  using Group = Ints;
  static BNB_INLINE Group read(const uint8_t *p) { return load_int32(p); }
  template <int kStep>
  static BNB_INLINE Ints codes(Group group) {
    if constexpr (kStep > 0) group = shift_right<2 * kStep>(group);
    return and_int(group, splat_bits(0x03030303u));
  }
};

// Codes that do not begin with a byte, moved so that they do: codes [first, first + count), count > 0.
BNB_NOINLINE void align_two_bits(const uint8_t *codes, int64_t first, int64_t count, uint8_t *to) {
  const uint8_t *from = codes + first / TwoBits::kCodes;
  const int shift = 2 * int(first % TwoBits::kCodes);
  const int64_t bytes = ceil_div(count, TwoBits::kCodes), last = (first + count - 1) / TwoBits::kCodes - first / TwoBits::kCodes;
  int64_t i = 0;
  for (; i + 8 <= last; i += 8) {
    const uint64_t word = bnb::load<uint64_t>(from + i, 0), next = from[i + 8];
    bnb::store<uint64_t>(to + i, 0, shift ? word >> shift | next << (64 - shift) : word);
  }
  for (; i < bytes; ++i) to[i] = uint8_t(from[i] >> shift | (i < last ? from[i + 1] << (8 - shift) : 0));
}

// BNB_TERNARY. In a load a 32-bit lane has 16 neighbours, one of every four in each step.
struct TernaryLayout : TwoBitLoad {
  static constexpr int64_t kWhole = TwoBits::kCodes;
  static constexpr bool kCarriesScales = false;
  static BNB_INLINE const uint8_t *address(const GemmTernaryArgs &args, int64_t first) { return args.b + first / kWhole; }
  static BNB_INLINE int64_t bytes_of(int64_t count) { return ceil_div(count, kWhole); }
  static BNB_INLINE float scale(const GemmTernaryArgs &args, int64_t first) {
    return bnb::load<float>(args.scale, first / (args.block * args.rows_per_scale));
  }

  static BNB_INLINE Group read_some(const uint8_t *p, int64_t count) {
    return load_int32(Padded<kVectorBytes>(p, bytes_of(count)).bytes);
  }
  static BNB_INLINE void order(const int8_t *from, int8_t *to) {
    Ints x[4];
    BNB_UNROLL for (int i = 0; i < 4; ++i) x[i] = load_int32(from + i * kVectorBytes);
    for (int step = 0; step < kSteps; ++step, to += kVectorBytes) {
      Ints of_step[4];
      BNB_UNROLL for (int i = 0; i < 4; ++i) {
        of_step[i] = and_int(x[i], splat_int(0xFF));
        x[i] = shift_right<8>(x[i]);
      }
      store_bytes(to, pack_uint8(of_step[0], of_step[1], of_step[2], of_step[3]));
    }
  }

  static BNB_INLINE void unpack(const GemmTernaryArgs &args, int64_t first, int64_t count, int8_t *to) {
    uint8_t aligned[kInt8Stretch / kWhole];
    const uint8_t *p = address(args, first);
    if (first % kWhole != 0 && count > 0) {
      align_two_bits(args.b, first, count, aligned);
      p = aligned;
    }
    for (; count > 0; count -= kVectorBytes, p += kLanes) {  // a byte in each 32-bit lane, whose codes move to a byte each
      const Ints bytes = count >= kVectorBytes ? load_uint8(p) : load_uint8_some(p, bytes_of(count));
      const Ints pairs = or_int(bytes, shift_left<6>(bytes));
      to = unpack_codes(and_int(or_int(pairs, shift_left<12>(pairs)), splat_bits(0x03030303u)), to);
    }
  }
};

// The blocks of GGUF, which are whole and begin with a byte.
template <typename Layout>
struct TqBlocks {
  static constexpr int64_t kWhole = kBlock;
  static constexpr bool kCarriesScales = true;
  static BNB_INLINE const uint8_t *address(const GemmTernaryArgs &args, int64_t first) {
    return args.b + first / kBlock * Layout::kBytes;
  }
  static BNB_INLINE int64_t bytes_of(int64_t count) { return count / kBlock * Layout::kBytes; }
  static BNB_INLINE float scale_in(const uint8_t *block) { return load_float<F16>(block + Layout::kCodeBytes, 0); }
  static BNB_INLINE float scale(const GemmTernaryArgs &args, int64_t first) { return scale_in(address(args, first)); }
  static BNB_INLINE Floats splat_scale(const uint8_t *block) {
    return widen_fp16(splat_shorts(bnb::load<uint16_t>(block + Layout::kCodeBytes, 0)));
  }
};

// BNB_TQ2_0: a load is a block, or half of one.
struct Tq2Layout : TwoBitLoad, TqBlocks<TQ2> {
  static constexpr int64_t kRow = TQ2::kRow, kHalf = kSteps * kRow;
  static_assert(kBlock % kGroup == 0 && kVectorBytes % kRow == 0, "whole loads and rows");
  static BNB_INLINE Group read_some(const uint8_t *p, int64_t) { return read(p); }

  // Row h of a vector of step s belongs to weights kHalf * h + kRow * s and on.
  static BNB_INLINE void order(const int8_t *from, int8_t *to) {
    for (int64_t step = 0; step < kSteps; ++step) {
      for (int64_t half = 0; half < kVectorBytes / kRow; ++half, to += kRow) std::memcpy(to, from + kHalf * half + kRow * step, kRow);
    }
  }

  static BNB_INLINE void unpack(const GemmTernaryArgs &args, int64_t first, int64_t count, int8_t *to) {
    for (const uint8_t *block = address(args, first); count > 0; count -= kBlock, block += TQ2::kBytes) {
      for (int64_t load = 0; load < kBlock; load += kGroup, to += kGroup) unpack_load(read(block + load / kSteps), to);
    }
  }

 private:
  static BNB_INLINE void unpack_load(Group group, int8_t *to) {
    if constexpr (kVectorBytes == kRow) {
      to = unpack_codes(codes<0>(group), to);
      to = unpack_codes(codes<1>(group), to);
      to = unpack_codes(codes<2>(group), to);
      unpack_codes(codes<3>(group), to);
    } else {
      int8_t steps[kGroup];
      unpack_codes(codes<0>(group), steps);
      unpack_codes(codes<1>(group), steps + kVectorBytes);
      unpack_codes(codes<2>(group), steps + 2 * kVectorBytes);
      unpack_codes(codes<3>(group), steps + 3 * kVectorBytes);
      for (int64_t row = 0; row < kGroup / kRow; ++row) {
        std::memcpy(to + row * kRow, steps + row % kSteps * kVectorBytes + row / kSteps * kRow, kRow);
      }
    }
  }
};

// What the bytes of a vector of TQ1_0's digits have to be multiplied with for the digit to be the one that is carried by 3.
struct TritFactors {
  uint8_t of[kBlock];
  constexpr TritFactors() : of() {
    for (int weight = 0; weight < kBlock; ++weight) {
      int factor = 1;
      for (int digit = TQ1::place_of(weight).index; digit > 0; --digit) factor *= 3;
      of[weight] = uint8_t(factor);
    }
  }
};

// BNB_TQ1_0: each weight of a block is made of a byte of its own, in order.
struct Tq1Unpacked : TqBlocks<TQ1> {
  static constexpr int64_t kSteps = kBlock / kVectorBytes, kGroup = kBlock, kGroupBytes = TQ1::kCodeBytes;
  static constexpr TritFactors kFactors{};
  struct Group {
    Ints first, second, third;  // the bytes of each part of the block, over and over
  };
  static BNB_INLINE Group read(const uint8_t *p) {
    return {repeat<TQ1::kFirst>(p), repeat<TQ1::kSecond>(p + TQ1::kFirst), repeat<TQ1::kThird>(p + TQ1::kFirst + TQ1::kSecond)};
  }
  static BNB_INLINE Group read_some(const uint8_t *p, int64_t) { return read(p); }
  template <int kStep>
  static BNB_INLINE Ints codes(const Group &group) {
    constexpr int64_t kFrom = kStep * kVectorBytes;
    const Ints bytes = bytes_of_step<kFrom>(group);
    return carries_of_3(multiply_bytes(bytes, load_int32(kFactors.of + kFrom)));
  }
  static BNB_INLINE void order(const int8_t *from, int8_t *to) { std::memcpy(to, from, kGroup); }

  static BNB_INLINE void unpack(const GemmTernaryArgs &args, int64_t first, int64_t count, int8_t *to) {
    for (const uint8_t *block = address(args, first); count > 0; count -= kBlock, block += TQ1::kBytes, to += kBlock) {
      unpack_steps(read(block), to);
    }
  }

 private:
  // The part of a block that weights [kFrom, kFrom + kVectorBytes) come from: one, or the end of one and the next.
  template <int64_t kFrom>
  static BNB_INLINE Ints bytes_of_step(const Group &group) {
    constexpr int64_t kTo = kFrom + kVectorBytes;
    if constexpr (kTo <= TQ1::kSecondWeight) {
      return group.first;
    } else if constexpr (kFrom < TQ1::kSecondWeight) {
      return join<int(TQ1::kSecondWeight - kFrom)>(group.first, group.second);
    } else if constexpr (kTo <= TQ1::kThirdWeight) {
      return group.second;
    } else {
      return join<int(TQ1::kThirdWeight - kFrom)>(group.second, group.third);
    }
  }
  template <int kStep = 0>
  static BNB_INLINE void unpack_steps(const Group &group, int8_t *to) {
    if constexpr (kStep < kSteps) {
      to = unpack_codes(codes<kStep>(group), to);
      unpack_steps<kStep + 1>(group, to);
    }
  }
};

#if defined(BNB_HAS_BYTE_TABLES)
// The codes of a byte's first four digits, as TwoBits has them, and that of the fifth.
struct TritTables {
  uint8_t four[256], fifth[256];
  constexpr TritTables() : four(), fifth() {
    for (int byte = 0; byte < 256; ++byte) {
      for (int digit = 0; digit < TwoBits::kCodes; ++digit) {
        four[byte] = uint8_t(four[byte] | TwoBits::bits(TQ1::code(uint8_t(byte), digit), digit));
      }
      fifth[byte] = TQ1::code(uint8_t(byte), TQ1::kDigits - 1);
    }
  }
};

// For few rows, a digit of all bytes of a block in each step; where there are no bytes, or no fifth digit, activations are zeros.
struct Tq1Layout : Tq1Unpacked {
  static constexpr int64_t kSteps = TQ1::kDigits;
  static constexpr TritTables kTables{};
  struct Group {
    Ints four, fifth;
  };
  static BNB_INLINE Group read(const uint8_t *p) {
    const Ints bytes = load_bytes_some(p, TQ1::kCodeBytes);
    return {look_up(load_byte_table(kTables.four), bytes), look_up(load_byte_table(kTables.fifth), bytes)};
  }
  static BNB_INLINE Group read_some(const uint8_t *p, int64_t) { return read(p); }
  template <int kStep>
  static BNB_INLINE Ints codes(const Group &group) {
    if constexpr (kStep == TwoBits::kCodes) {
      return group.fifth;
    } else {
      return TwoBitLoad::codes<kStep>(group.four);
    }
  }
  static BNB_INLINE void order(const int8_t *from, int8_t *to) {
    std::memset(to, 0, kSteps * kVectorBytes);
    const auto part = [&](int64_t weight, int64_t end, int64_t bytes, int64_t first_byte) {
      for (int64_t step = 0; weight < end; ++step, weight += bytes) {
        std::memcpy(to + step * kVectorBytes + first_byte, from + weight, size_t(bytes));
      }
    };
    part(0, TQ1::kSecondWeight, TQ1::kFirst, 0);
    part(TQ1::kSecondWeight, TQ1::kThirdWeight, TQ1::kSecond, TQ1::kFirst);
    part(TQ1::kThirdWeight, kBlock, TQ1::kThird, TQ1::kFirst + TQ1::kSecond);
  }
};
#else
using Tq1Layout = Tq1Unpacked;
#endif

// What the methods of gemm_int8.h want. kBlocks: rows of several blocks with a scale each. Otherwise out is EXACT, and with it SUM.
template <typename Layout, bool kBlocks>
struct TernaryWeights {
  using Args = GemmTernaryArgs;
  static constexpr bool kScalesBlocks = kBlocks, kSmall = true;
  static_assert(kRowStretch % kBlock == 0, "stretches are whole blocks of TQ types");
  static BNB_INLINE int64_t block(const Args &args) { return args.block; }
  static BNB_INLINE float scale(const Args &args, int64_t n, int64_t block) {
    return Layout::scale(args, n * args.k + block * args.block);
  }
  static BNB_INLINE const char *address(const Args &args, int64_t n, int64_t k) {
    return reinterpret_cast<const char *>(Layout::address(args, n * args.k + k));
  }
  static BNB_INLINE int64_t row_bytes(const Args &args) { return Layout::bytes_of(args.k); }
  static BNB_INLINE const int8_t *row(const Args &args, int64_t n, int64_t k0, int64_t k1, int8_t *buffer) {
    Layout::unpack(args, n * args.k + k0, k1 - k0, buffer);
    return buffer;
  }

  static BNB_INLINE int64_t front_bytes(const Args &) { return 0; }
  static BNB_INLINE void pack_front(const GemmTernaryKernelArgs &, int64_t) {}
  static BNB_INLINE int64_t run_columns(const Args &) { return kLanes * kMostRunGroups; }
  static BNB_INLINE int64_t buffer_bytes(const Args &) { return 0; }

  static BNB_INLINE Columns load_columns(const Args &args, int64_t n0, int64_t count, float *, int64_t) {
    float scales[kLanes] = {};
    if (!kBlocks && args.k > 0) {
      for (int64_t n = 0; n < count; ++n) scales[n] = scale(args, n0 + n, 0);
    }
    return {n0, count, load<F32>(scales), load_bias(args, n0, count), nullptr};
  }

  // Lane j of sums[i] is the sum of row i, column j, as bits of an integer unless it is of blocks.
  static BNB_INLINE void write_rows(const GemmTernaryKernelArgs &args, const Columns &columns, int64_t m0, int64_t rows,
                                    Floats (&sums)[kLanes]) {
    BNB_UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i >= rows) continue;
      const float row_stat = args.row_stat(m0 + i);
      if constexpr (kBlocks) {
        sums[i] = mul(sums[i], splat(row_stat * (1.0f / 127.0f)));
      } else {
        sums[i] = mul(mul(to_float(bits(sums[i])), mul(splat(row_stat), columns.stats)), splat(1.0f / 127.0f));
      }
    }
    store_rows(args, columns, m0, rows, sums);
  }
};

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_WEIGHTS_TERNARY_H_
