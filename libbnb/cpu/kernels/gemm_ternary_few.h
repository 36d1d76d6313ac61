// SPDX-License-Identifier: MIT
// Products with ternary weights for few rows of activations, which have to be as fast as weights can be read.
//
// Codes are unpacked in registers, as the unsigned side of dot products with int8, and meet activations that were put into the order of
// the layout (weights_ternary.h) once per call. A code is one more than its weight: a sum begins with minus that of its activations.
// Rows of weights are cut into chunks, of which a lane belongs to one block: a row that is one block, a block of several loads,
// or a load of several blocks. Sums of the first are integers to the end (EXACT), those of the others are scaled and added in fp32 (SUM).
#ifndef BNB_CPU_KERNELS_GEMM_TERNARY_FEW_H_
#define BNB_CPU_KERNELS_GEMM_TERNARY_FEW_H_

#include "cpu/kernels/weights_ternary.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// How far ahead memory is asked, at least: two short tiles of rows. It is asked from one end to the other, though the rows of a tile
// are read side by side: then the hardware's own prefetching, which follows one stream in a page, helps (AMD EPYC 9004: 0.20 ms for
// 4 MiB of codes instead of 0.45, 2026-11).
constexpr int64_t kTernaryAhead = 8 << 10;

// How a row of weights is cut.
struct Chunks {
  int64_t count, elements;      // the last one may have less
  int64_t loads, bytes;         // of codes
  bool share_loads;             // chunks are loads of several blocks
  bool aligned;                 // chunks begin with a byte
};

template <typename Layout>
BNB_INLINE bool blocks_share_loads(const GemmTernaryArgs &args) {
  return !Layout::kCarriesScales && args.blocks() > 1 && args.block < Layout::kGroup && Layout::kGroup % args.block == 0 &&
         args.block % (4 * Layout::kSteps) == 0;
}

template <typename Layout>
BNB_INLINE Chunks chunks_of(const GemmTernaryArgs &args) {
  Chunks chunks{};
  chunks.share_loads = blocks_share_loads<Layout>(args);
  chunks.elements = chunks.share_loads ? Layout::kGroup : args.block;
  chunks.count = args.k > 0 ? ceil_div(args.k, chunks.elements) : 0;
  chunks.loads = ceil_div(chunks.elements, Layout::kGroup);
  chunks.bytes = Layout::bytes_of(chunks.elements);
  chunks.aligned = args.k % Layout::kWhole == 0 && (chunks.count <= 1 || chunks.elements % Layout::kWhole == 0);
  return chunks;
}

// Packed activations of a chunk: what its sums begin with, then the vectors of its loads.
template <typename Layout>
BNB_INLINE int64_t packed_chunk_bytes(const Chunks &chunks) {
  return (1 + chunks.loads * Layout::kSteps) * kVectorBytes;
}

template <typename Layout>
void pack_ternary_few(const GemmTernaryKernelArgs &args, int64_t begin, int64_t end) {
  const Chunks chunks = chunks_of<Layout>(args);
  for (int64_t row = begin; row < end; ++row) {
    char *to = args.packed + row * chunks.count * packed_chunk_bytes<Layout>(chunks);
    for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
      char *start = to;
      to += kVectorBytes;
      Ints sums = splat_int(0);
      int64_t k = chunk * chunks.elements;
      const int64_t stop = smaller(k + chunks.elements, args.k);
      for (int64_t load = 0; load < chunks.loads; ++load, k += Layout::kGroup) {
        const int8_t *a = args.a + row * args.a_stride + k;
        int8_t padded[Layout::kGroup];
        if (stop - k < Layout::kGroup) {
          std::memset(padded, 0, sizeof padded);
          if (stop > k) std::memcpy(padded, a, size_t(stop - k));
          a = padded;
        }
        Layout::order(a, reinterpret_cast<int8_t *>(to));
        CodeSums of_load = begin_code_sums(sums);
        for (int step = 0; step < Layout::kSteps; ++step, to += kVectorBytes) {
          of_load = add_code_products(of_load, splat_bits(0x01010101u), load_int32(to));
        }
        sums = end_code_sums(sums, of_load);
      }
      store_int32(start, sub_int(splat_int(0), sums));
    }
  }
}

// Adds the products of a load of codes of each column with row m of the activations, a[m] + at and on.
template <typename Layout, int kColumns, int kRows, int kStep = 0>
BNB_INLINE void add_load(const typename Layout::Group (&groups)[kColumns], const char *const (&a)[kRows], int64_t at,
                         CodeSums (&sums)[kColumns][kRows]) {
  if constexpr (kStep < Layout::kSteps) {
    Ints codes[kColumns];
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) codes[n] = Layout::template codes<kStep>(groups[n]);
    BNB_UNROLL for (int m = 0; m < kRows; ++m) {
      const Ints x = load_int32(a[m] + at + kStep * kVectorBytes);
      BNB_UNROLL for (int n = 0; n < kColumns; ++n) sums[n][m] = add_code_products(sums[n][m], codes[n], x);
    }
    add_load<Layout, kColumns, kRows, kStep + 1>(groups, a, at, sums);
  }
}

// The sums of the chunks of codes at w[n] + w_at with the packed chunks at a[m] + at, spread over the lanes. count: of their weights;
// ahead: how far behind w[0] memory is asked.
template <typename Layout, int kColumns, int kRows>
BNB_INLINE void multiply_chunk(const uint8_t *const (&w)[kColumns], int64_t w_at, int64_t ahead, int64_t count,
                               const char *const (&a)[kRows], int64_t at, Ints (&sums)[kColumns][kRows]) {
  constexpr int64_t kLoadsAtOnce = int64_t(kMostCodeProducts) / Layout::kSteps, kLoadBytes = Layout::kSteps * kVectorBytes;
  BNB_UNROLL for (int m = 0; m < kRows; ++m) {
    const Ints start = load_int32(a[m] + at);
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) sums[n][m] = start;
  }
  at += kVectorBytes;
  while (count > 0) {
    CodeSums partial[kColumns][kRows];
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
      BNB_UNROLL for (int m = 0; m < kRows; ++m) partial[n][m] = begin_code_sums(sums[n][m]);
    }
    int64_t loads = smaller(kLoadsAtOnce, count / Layout::kGroup);
    count -= loads * Layout::kGroup;
    typename Layout::Group groups[kColumns];
    for (; loads > 0; --loads, w_at += Layout::kGroupBytes, at += kLoadBytes) {
      BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
        prefetch(w[0] + ahead + kColumns * w_at + n * Layout::kGroupBytes);
        groups[n] = Layout::read(w[n] + w_at);
      }
      add_load<Layout, kColumns, kRows>(groups, a, at, partial);
    }
    if (count > 0 && count < Layout::kGroup) {
      BNB_UNROLL for (int n = 0; n < kColumns; ++n) groups[n] = Layout::read_some(w[n] + w_at, count);
      add_load<Layout, kColumns, kRows>(groups, a, at, partial);
      count = 0;
    }
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
      BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[n][m] = end_code_sums(sums[n][m], partial[n][m]);
    }
  }
}

// The scales of a chunk, lane by lane.
template <typename Layout>
BNB_INLINE Floats scales_of_chunk(const GemmTernaryArgs &args, const Chunks &chunks, Ints index, int64_t row, int64_t chunk,
                                  const uint8_t *w) {
  if constexpr (Layout::kCarriesScales) {
    return Layout::splat_scale(w);
  } else {
    const char *scales = static_cast<const char *>(args.scale) + row * args.blocks() * 4;
    if (!chunks.share_loads) return splat(bnb::load<float>(scales, chunk));
    const int64_t per_load = Layout::kGroup / args.block, first = chunk * per_load;
    return spread(scales + first * 4, smaller(per_load, args.blocks() - first), index);
  }
}

// Where the codes of a row are, chunk by chunk from one byte to the next: in place, or copied into the buffer.
template <typename Layout>
BNB_INLINE const uint8_t *codes_of_row(const GemmTernaryArgs &args, const Chunks &chunks, int64_t row, uint8_t *buffer) {
  if constexpr (!Layout::kCarriesScales) {
    if (!chunks.aligned) {
      for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
        align_two_bits(args.b, row * args.k + chunk * chunks.elements, chunks.elements, buffer + chunk * chunks.bytes);
      }
      return buffer;
    }
  }
  return Layout::address(args, row * args.k);
}

// The lanes of the sums of rows of weights, from `row` on, with kRows rows of activations.
template <typename Layout, bool kBlocks, int kColumns, int kRows>
BNB_INLINE void multiply_ternary_tile(const GemmTernaryArgs &args, const Chunks &chunks, Ints index, const int64_t (&rows)[kColumns],
                                      const uint8_t *const (&w)[kColumns], const char *const (&a)[kRows],
                                      Floats (&sums)[kColumns][kRows]) {
  Ints of_chunk[kColumns][kRows];
  const int64_t tile_bytes = kColumns * Layout::bytes_of(args.k), ahead = tile_bytes > kTernaryAhead ? tile_bytes : kTernaryAhead;
  if constexpr (!kBlocks) {
    multiply_chunk<Layout, kColumns, kRows>(w, 0, ahead, args.k, a, 0, of_chunk);
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
      BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[n][m] = from_bits(of_chunk[n][m]);
    }
  } else {
    const int64_t chunk_bytes = packed_chunk_bytes<Layout>(chunks);
    BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
      BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[n][m] = splat(0.0f);
    }
    for (int64_t chunk = 0, w_at = 0, at = 0; chunk < chunks.count; ++chunk, w_at += chunks.bytes, at += chunk_bytes) {
      const int64_t count = smaller(chunks.elements, args.k - chunk * chunks.elements);
      multiply_chunk<Layout, kColumns, kRows>(w, w_at, ahead, count, a, at, of_chunk);
      BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
        const Floats scale = scales_of_chunk<Layout>(args, chunks, index, rows[n], chunk, w[n] + w_at);
        BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[n][m] = fma(to_float(of_chunk[n][m]), scale, sums[n][m]);
      }
    }
  }
}

// The sums of kLanes lanes each of kLanes columns, added up: lane n is the sum of column n.
template <bool kBlocks>
BNB_INLINE Floats add_lanes(Floats (&x)[kLanes]) {
  transpose(x);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    BNB_UNROLL for (int i = 0; i < kLanes / 2; ++i) {
      if (i < half) x[i] = kBlocks ? add(x[i], x[i + half]) : from_bits(add_int(bits(x[i]), bits(x[i + half])));
    }
  }
  return x[0];
}

// Groups [begin, end) of kLanes columns of out, tiles of kColumns by kRows at a time. The last rows may be less: the last one is then
// multiplied again, and so is the last column.
template <typename Layout, bool kBlocks, int kColumns, int kRows>
void multiply_ternary_rows(const GemmTernaryKernelArgs &args, int64_t begin, int64_t end) {
  static_assert(kRows <= kLanes && kLanes % kColumns == 0, "rows that are written together, whole tiles");
  using Weights = TernaryWeights<Layout, kBlocks>;
  const Chunks chunks = chunks_of<Layout>(args);
  const int64_t row_bytes = chunks.count * packed_chunk_bytes<Layout>(chunks);
  int32_t block_of_lane[kLanes];
  for (int i = 0; i < kLanes; ++i) block_of_lane[i] = chunks.share_loads ? int32_t(i * 4 * Layout::kSteps / args.block) : 0;
  const Ints index = load_int32(block_of_lane);
  for (int64_t group = begin; group < end; ++group) {
    const int64_t n0 = group * kLanes, count = smaller(kLanes, args.n - n0);
    const Columns columns = Weights::load_columns(args, n0, count, nullptr, 0);
    for (int64_t m0 = 0; m0 < args.m; m0 += kRows) {
      const char *a[kRows];
      for (int m = 0; m < kRows; ++m) a[m] = args.packed + smaller(m0 + m, args.m - 1) * row_bytes;
      Floats sums[kRows][kLanes] = {};
      for (int64_t first = 0; first < count && args.k > 0; first += kColumns) {
        Floats tile[kColumns][kRows];
        int64_t rows[kColumns];
        const uint8_t *w[kColumns];
        for (int n = 0; n < kColumns; ++n) {
          uint8_t *buffer = reinterpret_cast<uint8_t *>(args.scratch) + n * chunks.count * chunks.bytes;
          rows[n] = n0 + smaller(first + n, count - 1);
          w[n] = codes_of_row<Layout>(args, chunks, rows[n], buffer);
        }
        multiply_ternary_tile<Layout, kBlocks, kColumns, kRows>(args, chunks, index, rows, w, a, tile);
        BNB_UNROLL for (int n = 0; n < kColumns; ++n) {
          BNB_UNROLL for (int m = 0; m < kRows; ++m) sums[m][first + n] = tile[n][m];
        }
      }
      Floats rows[kLanes] = {};
      const int64_t rows_here = smaller(kRows, args.m - m0);
      for (int64_t m = 0; m < rows_here; ++m) rows[m] = add_lanes<kBlocks>(sums[m]);
      Weights::write_rows(args, columns, m0, rows_here, rows);
    }
  }
}

// Tiles of which registers hold the sums: few loads of activations for many codes where there are enough of them.
constexpr int kMostTernaryColumns = kLanes == 16 ? 4 : 2;

template <typename Layout, bool kBlocks>
void multiply_ternary_few(const GemmTernaryKernelArgs &args, int64_t begin, int64_t end) {
  if (args.m == 1) return multiply_ternary_rows<Layout, kBlocks, kMostTernaryColumns, 1>(args, begin, end);
  if constexpr (kLanes == 16) {
    if (args.m == 2) return multiply_ternary_rows<Layout, kBlocks, 2, 2>(args, begin, end);
    if (args.m <= 4) return multiply_ternary_rows<Layout, kBlocks, 2, 4>(args, begin, end);
    multiply_ternary_rows<Layout, kBlocks, 2, 8>(args, begin, end);
  } else {
    if (args.m == 2) return multiply_ternary_rows<Layout, kBlocks, 1, 2>(args, begin, end);
    multiply_ternary_rows<Layout, kBlocks, 1, 4>(args, begin, end);
  }
}

template <typename Layout>
ProductPlan plan_ternary_few(const GemmTernaryArgs &args, int) {
  const Chunks chunks = chunks_of<Layout>(args);
  ProductPlan plan{};
  plan.units = ceil_div(args.n, kLanes);
  plan.unit_cost = kLanes * (Layout::bytes_of(args.k) + args.k * args.m / 8);
  plan.pack_units = args.m;
  plan.pack_unit_cost = args.k;
  plan.packed_bytes = args.m * chunks.count * packed_chunk_bytes<Layout>(chunks);
  plan.scratch_bytes = chunks.aligned ? 0 : kMostTernaryColumns * chunks.count * chunks.bytes;
  return plan;
}

// This method as a row of a table.
template <typename Layout, bool kBlocks>
constexpr GemmTernaryMethod ternary_few_rows(const char *name, bool (*fits)(const GemmTernaryArgs &)) {
  return {name, fits, plan_ternary_few<Layout>, pack_ternary_few<Layout>, multiply_ternary_few<Layout, kBlocks>};
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_GEMM_TERNARY_FEW_H_
