// SPDX-License-Identifier: MIT
// Products with quantized weights for few rows of activations, which have to be as fast as weights can be read. SUM.
//
// Codes are decoded in registers and multiplied with activations that were put into the order of the look-up (gemm_methods.h) once
// per call. Scales wait until the end of a block: lanes hold partial sums of one block each, and are multiplied with the
// scale of theirs. A row's lanes are added at the very end.
#ifndef BNB_CPU_KERNELS_GEMM_FEW_H_
#define BNB_CPU_KERNELS_GEMM_FEW_H_

#include "cpu/kernels/gemm_methods.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Bytes of a packed group of activations, and of a packed row.
template <typename Lookup>
BNB_INLINE constexpr int64_t group_bytes() {
  return Lookup::kSteps * kVectorBytes;
}
template <typename Lookup>
BNB_INLINE int64_t few_row_bytes(const GemmArgs &args) {
  return ceil_div(args.k, Lookup::kGroup) * group_bytes<Lookup>();
}

// The first `count` of a group of activations as the look-up wants to multiply them, zeros behind them.
template <typename Lookup, typename Tag>
BNB_INLINE void convert_group(const char *a, int64_t count, typename Lookup::Activation::Storage *to) {
  using Activation = typename Lookup::Activation;
  constexpr int64_t kSize = sizeof(typename Tag::Storage), kGroup = Lookup::kGroup;
  if constexpr (Activation::kDType == Tag::kDType) {
    std::memcpy(to, a, size_t(count) * sizeof *to);
    std::memset(to + count, 0, size_t(kGroup - count) * sizeof *to);
  } else {
    for (int64_t i = 0; i < kGroup; i += kLanes) {
      const int64_t left = count - i;
      const Floats x = left >= kLanes ? load<Tag>(a + i * kSize) : left > 0 ? load_some<Tag>(a + i * kSize, left) : splat(0.0f);
      store<Activation>(to + i, x);
    }
  }
}

// Rows of activations in the order of the look-ups, zeros behind the last one.
template <typename Lookup>
void pack_few(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  using Storage = typename Lookup::Activation::Storage;
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    constexpr int64_t kSize = sizeof(typename Tag::Storage), kGroup = Lookup::kGroup;
    for (int64_t row = begin; row < end; ++row) {
      const char *a = static_cast<const char *>(args.a) + row * args.a_stride * kSize;
      char *to = args.packed + row * few_row_bytes<Lookup>(args);
      for (int64_t k = 0; k < args.k; k += kGroup, to += group_bytes<Lookup>()) {
        Storage natural[kGroup], ordered[kGroup];
        convert_group<Lookup, Tag>(a + k * kSize, smaller(kGroup, args.k - k), natural);
        for (int step = 0; step < Lookup::kSteps; ++step) {
          for (int lane = 0; lane < Lookup::kLanesPerStep; ++lane) {
            ordered[step * Lookup::kLanesPerStep + lane] = natural[Lookup::element(step, lane)];
          }
        }
        std::memcpy(to, ordered, sizeof ordered);
      }
    }
  });
}

// sums[chain][m] += the products of a group of weights with row m of the activations. Chains are sums that need not wait for each
// other.
template <typename Lookup, int kRows, int kChains, int kStep = 0>
BNB_INLINE void add_group(const typename Lookup::Table &table, const typename Lookup::Group &group, const char *a,
                          int64_t row_bytes, Floats (&sums)[kChains][kRows]) {
  if constexpr (kStep < Lookup::kSteps) {
    const auto weights = Lookup::template weights<kStep>(table, group);
    Floats(&chain)[kRows] = sums[kStep % kChains];
    BNB_UNROLL for (int m = 0; m < kRows; ++m) {
      chain[m] = Lookup::dot(weights, a + m * row_bytes + kStep * kVectorBytes, chain[m]);
    }
    add_group<Lookup, kRows, kChains, kStep + 1>(table, group, a, row_bytes, sums);
  }
}

template <int kChains, int kRows>
BNB_INLINE void clear(Floats (&sums)[kChains][kRows]) {
  BNB_UNROLL for (int chain = 0; chain < kChains; ++chain) {
    BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[chain][m] = splat(0.0f);
  }
}

constexpr int64_t kPrefetchBytes = 2048;  // ahead of what is read: the hardware's own prefetching ends with a page

// Several blocks to a load: sums += the products with `count` blocks.
template <typename Lookup, int kRows>
BNB_INLINE void multiply_small_blocks(const typename Lookup::Table &table, Ints index, int64_t blocksize, const char *scales,
                                      int64_t count, int64_t row_bytes, const uint8_t *w, const char *a, Floats (&sums)[kRows]) {
  const int64_t per_load = Lookup::kGroup / blocksize;
  for (int64_t block = 0; block < count; block += per_load, w += Lookup::kGroupBytes, a += group_bytes<Lookup>()) {
    Floats partial[1][kRows];
    clear(partial);
    const int64_t left = smaller(per_load, count - block);
    prefetch(w + kPrefetchBytes);
    const auto group = left == per_load ? Lookup::read(table, w) : Lookup::read_some(table, w, left * blocksize);
    add_group<Lookup, kRows, 1>(table, group, a, row_bytes, partial);
    const Floats scale = spread(scales + block * 4, left, index);
    BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = fma(partial[0][m], scale, sums[m]);
  }
}

// A block of at least one load: sums += the products with it.
template <typename Lookup, int kRows>
BNB_INLINE void multiply_block(const typename Lookup::Table &table, int64_t blocksize, float scale, int64_t row_bytes,
                               const uint8_t *w, const char *a, Floats (&sums)[kRows]) {
  constexpr int kWanted = kRows == 1 ? 4 : kRows == 2 ? 2 : 1, kChains = Lookup::kSteps < kWanted ? Lookup::kSteps : kWanted;
  constexpr int64_t kGroup = Lookup::kGroup;
  Floats partial[kChains][kRows];
  clear(partial);
  int64_t k = 0;
  for (; k + kGroup <= blocksize; k += kGroup, w += Lookup::kGroupBytes, a += group_bytes<Lookup>()) {
    prefetch(w + kPrefetchBytes);
    add_group<Lookup, kRows, kChains>(table, Lookup::read(table, w), a, row_bytes, partial);
  }
  if (k < blocksize) {
    add_group<Lookup, kRows, kChains>(table, Lookup::read_some(table, w, blocksize - k), a, row_bytes, partial);
  }
  BNB_UNROLL for (int m = 0; m < kRows; ++m) {
    BNB_UNROLL for (int chain = 1; chain < kChains; ++chain) partial[0][m] = add(partial[0][m], partial[chain][m]);
    sums[m] = fma(partial[0][m], splat(scale), sums[m]);
  }
}

// The sums of one row of weights with kRows rows of activations.
template <typename Lookup, int kRows>
BNB_INLINE void multiply_row(const GemmKernelArgs &args, const typename Lookup::Table &table, Ints index, int64_t row,
                             Floats (&sums)[kRows]) {
  const int64_t row_bytes = few_row_bytes<Lookup>(args), blocks = args.k / args.blocksize;
  const bool several = blocks_share_loads<Lookup>(args);
  const int64_t w_bytes = bytes_of_codes<Lookup>(args.blocksize);
  const int64_t a_bytes = ceil_div(args.blocksize, Lookup::kGroup) * group_bytes<Lookup>();
  const uint8_t *w = args.b + bytes_of_codes<Lookup>(row * args.k);
  const char *a = args.packed;
  BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m] = splat(0.0f);
  for (int64_t first = 0; first < blocks; first += kScalesAtOnce) {
    float buffer[kScalesAtOnce];
    const int64_t count = smaller(kScalesAtOnce, blocks - first);
    const char *scales = scales_of(args.scales, row * blocks + first, count, buffer);
    if (several) {
      multiply_small_blocks<Lookup, kRows>(table, index, args.blocksize, scales, count, row_bytes, w, a, sums);
      w += bytes_of_codes<Lookup>(count * args.blocksize);
      a += count * args.blocksize / Lookup::kGroup * group_bytes<Lookup>();
    } else {
      for (int64_t block = 0; block < count; ++block, w += w_bytes, a += a_bytes) {
        multiply_block<Lookup, kRows>(table, args.blocksize, bnb::load<float>(scales, block), row_bytes, w, a, sums);
      }
    }
  }
}

// Columns [begin, end) of out, kRows rows from row m0 on.
template <typename Lookup, int kRows>
void multiply_few_rows(const GemmKernelArgs &args, int64_t begin, int64_t end) {
  const typename Lookup::Table table = Lookup::table(args.quant_type);
  const Ints index = block_of_lane<Lookup>(args.blocksize);
  for (int64_t row = begin; row < end; ++row) {
    Floats sums[kRows];
    multiply_row<Lookup, kRows>(args, table, index, row, sums);
    const float bias = bias_at(args, row);
    for (int m = 0; m < kRows; ++m) {
      float sum = reduce_add(sums[m]);
      if constexpr (Lookup::kFactor) sum *= table.factor;
      const float result = args.bias ? sum + bias : sum;
      const int64_t at = m * args.out_stride + row;
      if (args.dtype == DType::kF32) store_float<F32>(args.out, at, result);
      if (args.dtype == DType::kF16) store_float<F16>(args.out, at, result);
      if (args.dtype == DType::kBF16) store_float<BF16>(args.out, at, result);
    }
  }
}

template <typename Lookup>
void multiply_few(const GemmKernelArgs &args, int64_t begin, int64_t end) {
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
ProductPlan plan_few(const GemmArgs &args, int) {
  ProductPlan plan{};
  plan.units = args.n;
  plan.unit_cost = bytes_of_codes<Lookup>(args.k) + args.k * args.m / 8;
  plan.pack_units = args.m;
  plan.pack_unit_cost = args.k * 4;
  plan.packed_bytes = args.m * few_row_bytes<Lookup>(args);
  return plan;
}

// Look-ups serve a few rows from registers at little more than the price of one; then it pays to decode weights into the cache.
template <typename Lookup, int kRows>
bool is_few(const GemmArgs &args) {
  if (Lookup::Activation::kDType != DType::kF32 && args.dtype != Lookup::Activation::kDType) return false;
  return args.m <= kRows && rows_are_blocks<Lookup>(args);
}

// This method as a row of a table.
template <typename Lookup, int kRows>
constexpr GemmMethod few_rows(const char *name) {
  return {name, is_few<Lookup, kRows>, plan_few<Lookup>, pack_few<Lookup>, multiply_few<Lookup>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_FEW_H_
