// SPDX-License-Identifier: MIT
// One way to look at mma and mfma: a warp multiplies 16 rows of weights by kCols rows of activations, a step of 16 columns at a time.
//
// Sums do not care which columns meet in which step, as long as weights and activations agree. So the lanes of a `part` take
// neighbouring columns, kCodes of them, and spend four in each step: what a lane loads is contiguous, of weights as of activations.
//   row(lane, r)           row of weights that the lane has codes of, r < kRows
//   part(lane)             of the four
//   column(lane)           row of activations that it loads
//   sum_row(lane, j), sum_column(lane, j)   what its sum j is of; sums j with the same j / kSumsPerRow share a row of weights
#ifndef BNB_GPU_MATRIX_UNIT_H_
#define BNB_GPU_MATRIX_UNIT_H_

#include "gpu/matrix.h"

namespace bnb::gpu {

#if defined(__CUDACC__) || (!defined(__HIPCC__) && BNB_SIMT_WAVE == 32)
struct MatrixUnit {
  static constexpr int kLanes = 32, kCols = 8, kRows = 2, kSumsPerRow = 2;
  static BNB_DEVICE_METHOD int row(int lane, int r) { return lane / 4 + 8 * r; }
  static BNB_DEVICE_METHOD int part(int lane) { return lane % 4; }
  static BNB_DEVICE_METHOD int column(int lane) { return lane / 4; }
  static BNB_DEVICE_METHOD int sum_row(int lane, int j) { return lane / 4 + j / 2 * 8; }
  static BNB_DEVICE_METHOD int sum_column(int lane, int j) { return lane % 4 * 2 + j % 2; }
  template <typename Tag>
  static BNB_DEVICE_METHOD void multiply(float (&sum)[4], const uint32_t (&w)[2][2], const uint32_t (&x)[2]) {
    const uint32_t a[4] = {w[0][0], w[1][0], w[0][1], w[1][1]};
    mma_m16n8k16<Tag>(sum, a, x);
  }
};
#else
struct MatrixUnit {
  static constexpr int kLanes = 64, kCols = 16, kRows = 1, kSumsPerRow = 1;
  static BNB_DEVICE_METHOD int row(int lane, int) { return lane % 16; }
  static BNB_DEVICE_METHOD int part(int lane) { return lane / 16; }
  static BNB_DEVICE_METHOD int column(int lane) { return lane % 16; }
  static BNB_DEVICE_METHOD int sum_row(int lane, int j) { return lane / 16 * 4 + j; }
  static BNB_DEVICE_METHOD int sum_column(int lane, int) { return lane % 16; }
  template <typename Tag>
  static BNB_DEVICE_METHOD void multiply(float (&sum)[4], const uint32_t (&w)[1][2], const uint32_t (&x)[2]) {
    mfma_16x16x16<Tag>(sum, w[0], x);
  }
};
#endif

}  // namespace bnb::gpu

#endif  // BNB_GPU_MATRIX_UNIT_H_
