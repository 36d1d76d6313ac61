// SPDX-License-Identifier: MIT
// Sizes that the kernels of products share with the host, which chooses among them and counts threadgroups.
#ifndef BNB_METAL_KERNELS_PRODUCT_SHAPES_H_
#define BNB_METAL_KERNELS_PRODUCT_SHAPES_H_

namespace bnb {
namespace kernels {

// Few rows of activations (few_rows.h): rows of weights that a simdgroup takes at once, by rows of activations.
enum : int { kFewThreads = 128, kMostFewRows = 8 };
template <int kM>
struct FewShape {
  enum : int { kRows = kM <= 4 ? 4 : 2 };  // more of them would not stay in registers
};

// Tiles of outputs have kManyTile rows or, for up to kMostFewTiles rows of activations, kFewTile rows.
enum : int { kFewTile = 16, kManyTile = 64, kMostFewTiles = 32 };

// By matrices (matrix_tiles.h).
enum : int { kMatrixThreads = 128, kMatrixTileN = 64, kMatrixStep = 32 };
enum : int { kMostMatrixBytes = 24 << 10 };  // of threadgroup memory that such a kernel has

// Any shape: columns of a tile.
enum : int { kAnyThreads = 256, kAnyTile = 64 };

enum : int { kUnit = 16 };  // codes that the kernels for whole vectors decode with one scale

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_PRODUCT_SHAPES_H_
