// SPDX-License-Identifier: MIT
// Products by simdgroup matrices, whatever the weights are: tiles of kMatrixStep columns of activations and of kMatrixTileN rows of weights
// in threadgroup memory, as numbers of the type that matrices have; sums in fp32. Four simdgroups have a quarter of a tile of outputs each.
#ifndef BNB_METAL_KERNELS_MATRIX_TILES_H_
#define BNB_METAL_KERNELS_MATRIX_TILES_H_

#include "metal/kernels/floats.h"
#include "metal/kernels/product_shapes.h"

namespace bnb {
namespace kernels {

// Element: float, half or bfloat. kRows: of activations.
template <typename Element, int kRows>
struct MatrixTile {
  enum : int {
    kPitch = kMatrixStep + 16 / int(sizeof(Element)),  // from row to row, so that eight of them start in different banks
    kWeights = kMatrixTileN * kPitch,                  // elements
    kActivations = kRows * kPitch,
    kInVector = 16 / int(sizeof(Element)),             // elements: tiles begin at multiples of 16 bytes
    kPatches = kMatrixThreads / kLanes * 64,           // floats: a matrix for each simdgroup
    kMs = kRows / 16,                                  // matrices of a simdgroup
    kNs = kMatrixTileN / 16
  };

  static inline void clear(thread simdgroup_matrix<float, 8, 8> *sums) {
    BNB_UNROLL
    for (int i = 0; i < kMs * kNs; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }

  // The rows of the tile that a simdgroup has.
  static inline int row(uint simdgroup) { return int(simdgroup) / 2 * kMs * 8; }
  static inline int column(uint simdgroup) { return int(simdgroup) % 2 * kNs * 8; }

  static inline void multiply(threadgroup const Element *activations, threadgroup const Element *weights, uint simdgroup,
                              thread simdgroup_matrix<float, 8, 8> *sums) {
    threadgroup const Element *x = activations + row(simdgroup) * kPitch, *w = weights + column(simdgroup) * kPitch;
    BNB_UNROLL
    for (int k = 0; k < kMatrixStep; k += 8) {
      simdgroup_matrix<Element, 8, 8> left[kMs], right[kNs];
      BNB_UNROLL
      for (int i = 0; i < kMs; ++i) simdgroup_load(left[i], x + i * 8 * kPitch + k, kPitch);
      BNB_UNROLL
      for (int j = 0; j < kNs; ++j) simdgroup_load(right[j], w + j * 8 * kPitch + k, kPitch, 0, true);
      BNB_UNROLL
      for (int i = 0; i < kMs; ++i) {
        BNB_UNROLL
        for (int j = 0; j < kNs; ++j) simdgroup_multiply_accumulate(sums[i * kNs + j], left[i], right[j], sums[i * kNs + j]);
      }
    }
  }

  // product.store(m, n, sum) for every output of the tile. patch: of the simdgroup.
  template <typename Product>
  static inline void store(thread const Product &product, long m0, long n0, uint simdgroup, uint lane, threadgroup float *patch,
                           thread simdgroup_matrix<float, 8, 8> *sums) {
    BNB_UNROLL
    for (int i = 0; i < kMs * kNs; ++i) {
      simdgroup_store(sums[i], patch, 8);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      const int at = 2 * int(lane);
      const long m = m0 + row(simdgroup) + i / kNs * 8 + at / 8, n = n0 + column(simdgroup) + i % kNs * 8 + at % 8;
      product.store(m, n, patch[at]);
      product.store(m, n + 1, patch[at + 1]);
      simdgroup_barrier(mem_flags::mem_threadgroup);  // before the next one is written over it
    }
  }
};

// Eight elements to a multiple of 16 bytes.
inline uint element_bits(float x) { return as_type<uint>(x); }
inline uint element_bits(half x) { return uint(as_type<ushort>(x)); }
#if __METAL_VERSION__ >= 310
inline uint element_bits(bfloat x) { return uint(as_type<ushort>(x)); }
#endif
template <typename Element>
inline void store_eight(threadgroup Element *place, thread const float *x) {
  enum : int { kInWord = 4 / int(sizeof(Element)) };
  threadgroup uint4 *vectors = reinterpret_cast<threadgroup uint4 *>(place);
  BNB_UNROLL
  for (int v = 0; v < 2 / kInWord; ++v) {
    uint4 vector;
    BNB_UNROLL
    for (int w = 0; w < 4; ++w) {
      const int at = (4 * v + w) * kInWord;
      vector[w] = element_bits(Element(x[at]));
      if (kInWord == 2) vector[w] |= element_bits(Element(x[at + kInWord - 1])) << 16;
    }
    vectors[v] = vector;
  }
}

// Columns k0 .. k0 + kMatrixStep of the kRows rows from m0 on of a matrix [m, k] of floats; zeros past its edges. k is a multiple of 8.
struct FloatRows {
  device const uchar *a;
  long m, k, stride;
  bool vectors, aligned;  // as load_eight() wants them
};
template <typename Tag, typename Element, int kRows>
inline void stage_rows(FloatRows from, long m0, long k0, threadgroup Element *tile, uint index) {
  enum : int { kEights = kMatrixStep / 8, kPitch = MatrixTile<Element, kRows>::kPitch };
  for (int i = int(index); i < kRows * kEights; i += kMatrixThreads) {
    const int row = i / kEights, column = i % kEights * 8;
    float x[8];
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) x[j] = 0.0f;
    if (m0 + row < from.m && k0 + column < from.k) {
      load_eight<Tag>(from.a, from.vectors, from.aligned, (m0 + row) * from.stride + k0 + column, x);
    }
    store_eight(tile + row * kPitch + column, x);
  }
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_MATRIX_TILES_H_
