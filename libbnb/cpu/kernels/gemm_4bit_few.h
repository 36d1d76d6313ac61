// SPDX-License-Identifier: MIT
// The 4-bit product for few rows of activations, which has to be as fast as weights can be read. SUM.
//
// A load brings kGroup codes, eight in each 32-bit lane (docs/formats.md: the first of a byte is in its high half). They are looked
// up where they lie, one or two per 32-bit lane at a time, and multiplied with activations that were put into the same order
// once per call. Scales wait until the end of a block: lanes hold partial sums of one block each, and are multiplied with the
// scale of theirs. A row's lanes are added at the very end.
#ifndef BNB_CPU_KERNELS_GEMM_4BIT_FEW_H_
#define BNB_CPU_KERNELS_GEMM_4BIT_FEW_H_

#include "cpu/kernels/gemm_4bit.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Weights as fp32, one of each 32-bit lane per step. (BF16Lookup is the other one of its kind.)
struct FloatLookup {
  static constexpr int kSteps = 8, kLanesPerStep = kLanes;
  using Activation = F32;
  using Table = NibbleFloats;
  static BNB_INLINE Table table(const uint32_t *codebook) { return make_nibble_floats(codebook); }
  static constexpr int element(int step, int lane) { return 8 * lane + (step ^ 1); }
  template <int kStep>
  static BNB_INLINE Floats weights(const Table &table, Ints v) {
    return look_up<kStep>(table, v);
  }
  static BNB_INLINE Floats dot(Floats weights, const char *activations, Floats sums) {
    return fma(weights, load<F32>(activations), sums);
  }
};

// Bytes of a packed row of activations, and of a packed group.
template <typename Lookup>
BNB_INLINE constexpr int64_t group_bytes() {
  return Lookup::kSteps * kVectorBytes;
}
template <typename Lookup>
BNB_INLINE int64_t few_row_bytes(const Gemm4bitArgs &args) {
  return ceil_div(args.k, kGroup) * group_bytes<Lookup>();
}

// Rows of activations in the order of the look-ups, zeros behind the last one.
template <typename Lookup>
void pack_few(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  using Storage = typename Lookup::Activation::Storage;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t row = begin; row < end; ++row) {
      const char *a = static_cast<const char *>(args.a) + row * args.a_stride * int64_t(sizeof(typename Tag::Storage));
      char *to = args.packed + row * few_row_bytes<Lookup>(args);
      for (int64_t k = 0; k < args.k; k += kGroup, to += group_bytes<Lookup>()) {
        Storage group[kGroup];
        const int64_t count = smaller(kGroup, args.k - k);
        for (int step = 0; step < Lookup::kSteps; ++step) {
          for (int lane = 0; lane < Lookup::kLanesPerStep; ++lane) {
            const int from = Lookup::element(step, lane);
            Storage value{};
            if (from < count) {
              if constexpr (sizeof(Storage) == sizeof(typename Tag::Storage)) {
                value = bnb::load<Storage>(a, k + from);
              } else {
                value = Lookup::Activation::narrow(load_float<Tag>(a, k + from));
              }
            }
            group[step * Lookup::kLanesPerStep + lane] = value;
          }
        }
        std::memcpy(to, group, sizeof group);
      }
    }
  });
}

// partial[m] += the products of one load of codes with row m of the activations.
template <typename Lookup, int kRows, int kStep = 0>
BNB_INLINE void add_group(const typename Lookup::Table &table, Ints v, const char *a, int64_t row_bytes,
                          Floats (&partial)[kRows]) {
  if constexpr (kStep < Lookup::kSteps) {
    const auto weights = Lookup::template weights<kStep>(table, v);
    BNB_UNROLL for (int m = 0; m < kRows; ++m) {
      partial[m] = Lookup::dot(weights, a + m * row_bytes + kStep * kVectorBytes, partial[m]);
    }
    add_group<Lookup, kRows, kStep + 1>(table, v, a, row_bytes, partial);
  }
}

constexpr int64_t kPrefetchBytes = 2048;  // ahead of what is read: the hardware's own prefetching ends with a page

// The sums of one row of weights with kRows rows of activations.
template <typename Lookup, int kRows>
BNB_INLINE void multiply_row(const Gemm4bitKernelArgs &args, const typename Lookup::Table &table, Ints index, int64_t row,
                             Floats (&sums)[kRows]) {
  const int64_t row_bytes = few_row_bytes<Lookup>(args), blocks = args.k / args.blocksize;
  const uint8_t *w = args.b + row * (args.k / 2);
  const char *a = args.packed;
  BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = splat(0.0f);
  for (int64_t first = 0; first < blocks; first += kScalesAtOnce) {
    float buffer[kScalesAtOnce];
    const int64_t count = smaller(kScalesAtOnce, blocks - first);
    const char *scales = scales_of(args.absmax, row * blocks + first, count, buffer);
    if (args.blocksize < kGroup) {  // several blocks to a load
      const int64_t per_load = kGroup / args.blocksize;
      for (int64_t block = 0; block < count; block += per_load) {
        Floats partial[kRows];
        BNB_UNROLL for (int m = 0; m < kRows; ++m) partial[m] = splat(0.0f);
        const int64_t left = smaller(per_load, count - block);
        const Ints v = left == per_load ? load_int32(w) : load_int32_some(w, left * (args.blocksize / 8));
        prefetch(w + kPrefetchBytes);
        add_group<Lookup, kRows>(table, v, a, row_bytes, partial);
        const Floats scale = spread(scales + block * 4, left, index);
        BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = fma(partial[m], scale, sums[m]);
        w += kGroupBytes;
        a += group_bytes<Lookup>();
      }
    } else {
      for (int64_t block = 0; block < count; ++block) {
        Floats partial[kRows];
        BNB_UNROLL for (int m = 0; m < kRows; ++m) partial[m] = splat(0.0f);
        for (int64_t k = 0; k < args.blocksize; k += kGroup) {
          const Ints v = load_int32(w);
          prefetch(w + kPrefetchBytes);
          add_group<Lookup, kRows>(table, v, a, row_bytes, partial);
          w += kGroupBytes;
          a += group_bytes<Lookup>();
        }
        const Floats scale = splat(bnb::load<float>(scales, block));
        BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = fma(partial[m], scale, sums[m]);
      }
    }
  }
}

// Columns [begin, end) of out, kRows rows from row m0 on.
template <typename Lookup, int kRows>
void multiply_few_rows(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  const typename Lookup::Table table = Lookup::table(codebook_of(args.quant_type));
  const Ints index = block_of_lane(args.blocksize);
  for (int64_t row = begin; row < end; ++row) {
    Floats sums[kRows];
    multiply_row<Lookup, kRows>(args, table, index, row, sums);
    const float bias = bias_at(args, row);
    for (int m = 0; m < kRows; ++m) {
      const float sum = reduce_add(sums[m]);
      const float result = args.bias ? sum + bias : sum;
      const int64_t at = m * args.out_stride + row;
      if (args.dtype == DType::kF32) store_float<F32>(args.out, at, result);
      if (args.dtype == DType::kF16) store_float<F16>(args.out, at, result);
      if (args.dtype == DType::kBF16) store_float<BF16>(args.out, at, result);
    }
  }
}

template <typename Lookup>
void multiply_few(const Gemm4bitKernelArgs &args, int64_t begin, int64_t end) {
  switch (args.m) {
    case 1: return multiply_few_rows<Lookup, 1>(args, begin, end);
    case 2: return multiply_few_rows<Lookup, 2>(args, begin, end);
    case 3: return multiply_few_rows<Lookup, 3>(args, begin, end);
    case 4: return multiply_few_rows<Lookup, 4>(args, begin, end);
    default: break;
  }
  if constexpr (kFewRows > 4) {
    switch (args.m) {
      case 5: return multiply_few_rows<Lookup, 5>(args, begin, end);
      case 6: return multiply_few_rows<Lookup, 6>(args, begin, end);
      case 7: return multiply_few_rows<Lookup, 7>(args, begin, end);
      default: return multiply_few_rows<Lookup, 8>(args, begin, end);
    }
  }
}

template <typename Lookup>
ProductPlan plan_few(const Gemm4bitArgs &args, int) {
  ProductPlan plan{};
  plan.units = args.n;
  plan.unit_cost = args.k / 2 + args.k * args.m / 8;
  plan.pack_units = args.m;
  plan.pack_unit_cost = args.k * 4;
  plan.packed_bytes = args.m * few_row_bytes<Lookup>(args);
  return plan;
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_4BIT_FEW_H_
