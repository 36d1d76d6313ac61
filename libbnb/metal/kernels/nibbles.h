// SPDX-License-Identifier: MIT
// Codes of 4 bits, two in a byte.
#ifndef BNB_METAL_KERNELS_NIBBLES_H_
#define BNB_METAL_KERNELS_NIBBLES_H_

#include "metal/kernels/floats.h"

namespace bnb {
namespace kernels {

// codes[j] from and to the halves of bytes (i + j) / 2 for j < kItems; i is a multiple of kItems. kHighFirst: where element 2i lies.
template <bool kHighFirst>
inline void load_nibbles(device const uchar *array, bool aligned, long i, long count, thread uchar *codes) {
  uchar bytes[kItems / 2];
  load_bytes<kItems / 2>(array, aligned, i / 2, (count + 1) / 2, bytes);
  BNB_UNROLL
  for (int j = 0; j < kItems / 2; ++j) {
    codes[2 * j] = uchar(kHighFirst ? bytes[j] >> 4 : bytes[j] & 15);
    codes[2 * j + 1] = uchar(kHighFirst ? bytes[j] & 15 : bytes[j] >> 4);
  }
}
template <bool kHighFirst>
inline void store_nibbles(device uchar *array, bool aligned, long i, long count, thread const uchar *codes) {
  uchar bytes[kItems / 2];
  BNB_UNROLL
  for (int j = 0; j < kItems / 2; ++j) {
    bytes[j] = uchar(kHighFirst ? (codes[2 * j] << 4) | codes[2 * j + 1] : codes[2 * j] | (codes[2 * j + 1] << 4));
  }
  store_bytes<kItems / 2>(array, aligned, i / 2, (count + 1) / 2, bytes);
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_NIBBLES_H_
