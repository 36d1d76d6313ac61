// SPDX-License-Identifier: MIT
// Matrices of 8 x 8 that a simdgroup holds together. Which lane holds which elements is Metal's secret: here lane i holds elements
// i and i + 32 of the row-major order, and what depends on that is wrong.
#ifndef TESTS_METAL_MSL_SIMDGROUP_MATRIX_H_
#define TESTS_METAL_MSL_SIMDGROUP_MATRIX_H_

namespace metal {

template <typename T, int kCols, int kRows>
struct simdgroup_matrix {
  static_assert(kCols == 8 && kRows == 8, "the one size there is");
  T elements[2];
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T diagonal) {
    for (int i = 0; i < 2; ++i) {
      const uint place = metal_host::lane() + 32u * uint(i);
      elements[i] = place / 8 == place % 8 ? diagonal : T(0.0f);
    }
  }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
#if __METAL_VERSION__ >= 310
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
#endif

template <typename T, int kCols, int kRows>
MSL_UNWATCHED inline simdgroup_matrix<T, kCols, kRows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, kCols, kRows> matrix;
  matrix.elements[0] = matrix.elements[1] = value;
  return matrix;
}

// Element (row, col) lies at elements_per_row * row + col, or at elements_per_row * col + row if it is transposed.
#define MSL_LOAD_AND_STORE(SPACE)                                                                                          \
  template <typename T>                                                                                                    \
  inline void simdgroup_load(thread simdgroup_matrix<T, 8, 8> &matrix, SPACE const T *source, ulong elements_per_row = 8,  \
                             ulong = 0, bool transposed = false, MSL_SITE) {                                               \
    simdgroup_barrier(mem_flags::mem_none, file, line);                                                                    \
    for (int i = 0; i < 2; ++i) {                                                                                          \
      const ulong place = metal_host::lane() + 32u * uint(i), row = place / 8, col = place % 8;                            \
      matrix.elements[i] = source[transposed ? elements_per_row * col + row : elements_per_row * row + col];               \
    }                                                                                                                      \
  }                                                                                                                        \
  template <typename T>                                                                                                    \
  inline void simdgroup_store(const thread simdgroup_matrix<T, 8, 8> &matrix, SPACE T *target, ulong elements_per_row = 8, \
                              ulong = 0, bool transposed = false, MSL_SITE) {                                              \
    simdgroup_barrier(mem_flags::mem_none, file, line);                                                                    \
    for (int i = 0; i < 2; ++i) {                                                                                          \
      const ulong place = metal_host::lane() + 32u * uint(i), row = place / 8, col = place % 8;                            \
      target[transposed ? elements_per_row * col + row : elements_per_row * row + col] = matrix.elements[i];               \
    }                                                                                                                      \
  }
MSL_LOAD_AND_STORE(MSL_DEVICE)
#if defined(MSL_CHECK)
MSL_LOAD_AND_STORE(MSL_THREADGROUP)
#endif
#undef MSL_LOAD_AND_STORE

// d = a * b + c, summed in float in the order of k.
template <typename D, typename A, typename B, typename C>
MSL_UNWATCHED inline void simdgroup_multiply_accumulate(thread simdgroup_matrix<D, 8, 8> &d, thread simdgroup_matrix<A, 8, 8> &a,
                                                        thread simdgroup_matrix<B, 8, 8> &b, thread simdgroup_matrix<C, 8, 8> &c,
                                                        MSL_SITE) {
  struct Record {
    float a[2], b[2], c[2], d[2];
  } record;
  for (int i = 0; i < 2; ++i) {
    record.a[i] = float(a.elements[i]);
    record.b[i] = float(b.elements[i]);
    record.c[i] = float(c.elements[i]);
  }
  metal_host::meet({file, line}, &record, [](void **records, int lanes) MSL_UNWATCHED {
    if (lanes != 32) metal_host::stop("a matrix of a simdgroup that is not whole");
    float left[64], right[64], sums[64];
    for (int place = 0; place < 64; ++place) {
      const auto *from = static_cast<const Record *>(records[place % 32]);
      left[place] = from->a[place / 32];
      right[place] = from->b[place / 32];
      sums[place] = from->c[place / 32];
    }
    for (int row = 0; row < 8; ++row) {
      for (int k = 0; k < 8; ++k) {
        for (int col = 0; col < 8; ++col) sums[row * 8 + col] += left[row * 8 + k] * right[k * 8 + col];
      }
    }
    for (int place = 0; place < 64; ++place) static_cast<Record *>(records[place % 32])->d[place / 32] = sums[place];
  });
  for (int i = 0; i < 2; ++i) d.elements[i] = D(record.d[i]);
}

}  // namespace metal

#endif  // TESTS_METAL_MSL_SIMDGROUP_MATRIX_H_
