// SPDX-License-Identifier: MIT
// One way to look at the int8 forms of mma and mfma: a warp multiplies kX rows of activations by kW rows of weights, 64 columns at a
// time. Sums do not care which columns meet in which instruction as long as both sides agree, so the lanes of a `part` take 16
// neighbouring columns, which is one load from shared memory.
//   x_row(lane, r), w_row(lane)   rows that the lane loads, r < kXRows; part(lane): of the four
//   turn(row)                     what the pieces of 16 bytes of a row are moved by in shared memory, so that the lanes that load
//                                 together find them in different banks
//   m(lane, j), n(lane, j)        which output sum j is; sums 2 i and 2 i + 1 are neighbours of a row
#ifndef BNB_GPU_INT8_UNIT_H_
#define BNB_GPU_INT8_UNIT_H_

#include "gpu/int8_weights.h"
#include "gpu/matrix.h"

namespace bnb::gpu {

#if defined(__CUDACC__) || (!defined(__HIPCC__) && BNB_SIMT_WAVE == 32)
struct Int8Unit {
  static constexpr int kLanes = 32, kX = 16, kW = 8, kXRows = 2;
  static BNB_DEVICE_METHOD int x_row(int lane, int r) { return lane / 4 + 8 * r; }
  static BNB_DEVICE_METHOD int w_row(int lane) { return lane / 4; }
  static BNB_DEVICE_METHOD int part(int lane) { return lane % 4; }
  static BNB_DEVICE_METHOD int turn(int row) { return row % 2 * 4; }  // eight lanes load together, of two rows
  static BNB_DEVICE_METHOD int m(int lane, int j) { return lane / 4 + j / 2 * 8; }
  static BNB_DEVICE_METHOD int n(int lane, int j) { return lane % 4 * 2 + j % 2; }
  static BNB_DEVICE_METHOD void multiply(int (&sum)[4], const Sixteen (&x)[kXRows], const Sixteen &w) {
    BNB_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const uint32_t a[4] = {x[0].words[i], x[1].words[i], x[0].words[i + 1], x[1].words[i + 1]};
      const uint32_t b[2] = {w.words[i], w.words[i + 1]};
      mma_m16n8k32(sum, a, b);
    }
  }
};
#else
struct Int8Unit {
  static constexpr int kLanes = 64, kX = 16, kW = 16, kXRows = 1;
  static BNB_DEVICE_METHOD int x_row(int lane, int) { return lane % 16; }
  static BNB_DEVICE_METHOD int w_row(int lane) { return lane % 16; }
  static BNB_DEVICE_METHOD int part(int lane) { return lane / 16; }
  static BNB_DEVICE_METHOD int turn(int row) { return row % 8; }  // of eight rows
  static BNB_DEVICE_METHOD int m(int lane, int) { return lane % 16; }
  static BNB_DEVICE_METHOD int n(int lane, int j) { return lane / 16 * 4 + j; }
  static BNB_DEVICE_METHOD void multiply(int (&sum)[4], const Sixteen (&x)[kXRows], const Sixteen &w) {
    BNB_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const uint32_t a[2] = {w.words[i], w.words[i + 1]}, b[2] = {x[0].words[i], x[0].words[i + 1]};
      mfma_16x16x32(sum, a, b);
    }
  }
};
#endif

}  // namespace bnb::gpu

#endif  // BNB_GPU_INT8_UNIT_H_
