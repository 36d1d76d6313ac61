// SPDX-License-Identifier: MIT
// The words of libbnb/gpu/matrix.h on the host. The lanes of a warp meet, and the last one multiplies: fp32 products and sums, in the
// order of k. Copies are done when they are waited for, so that a wait that is missing leaves garbage.
#ifndef TESTS_SIMT_MATRIX_H_
#define TESTS_SIMT_MATRIX_H_

#include "core/dtype.h"
#include "simt/copies.h"
#include "simt/device.h"

namespace bnb::gpu {

// Number i of a lane's registers.
template <typename Tag>
static inline float number_of(const uint32_t *registers, int i) {
  return Tag::widen(uint16_t(registers[i / 2] >> (i % 2 * 16)));
}

template <typename Tag>
static inline uint32_t multiply_pair(uint32_t x, uint32_t y) {
  return Tag::narrow(number_of<Tag>(&x, 0) * number_of<Tag>(&y, 0)) |
         uint32_t(Tag::narrow(number_of<Tag>(&x, 1) * number_of<Tag>(&y, 1))) << 16;
}

struct MatrixLane {
  float *sum;
  const uint32_t *a, *b;
  uint64_t rows;
};

template <typename Tag>
static void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_SITE) {
  MatrixLane lane{sum, a, b, 0};
  simt::meet(site, &lane, [](void **records, int) {
    float x[16][16], y[8][16];
    for (int l = 0; l < 32; ++l) {
      const auto *from = static_cast<const MatrixLane *>(records[l]);
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 8; ++i) x[g + i / 2 % 2 * 8][2 * t + i / 4 * 8 + i % 2] = number_of<Tag>(from->a, i);
      for (int i = 0; i < 4; ++i) y[g][2 * t + i / 2 * 8 + i % 2] = number_of<Tag>(from->b, i);
    }
    for (int l = 0; l < 32; ++l) {
      float *to = static_cast<MatrixLane *>(records[l])->sum;
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 16; ++k) to[i] += x[g + i / 2 * 8][k] * y[2 * t + i % 2][k];
      }
    }
  });
}

// A warp's share of the instruction of four: its 16 rows of a.
static inline uint64_t wgmma_rows(const void *shared, uint32_t across, uint32_t down) {
  const auto offset = static_cast<const char *>(shared) - static_cast<const char *>(simt::shared_memory());
  if (offset < 0 || offset % 16 || across % 16 || down % 16 || offset + int64_t(7 * down) >= (1 << 18)) {
    simt::stop("a descriptor of shared memory with offset %lld, strides %u and %u", (long long)offset, across, down);
  }
  return uint64_t(offset >> 4) | uint64_t(across >> 4) << 16 | uint64_t(down >> 4) << 32;
}

template <typename Tag>
static void wgmma_m64n64k16(float (&sum)[32], const uint32_t (&a)[4], uint64_t b, bool add, SIMT_SITE) {
  for (int i = 0; i < 32 && !add; ++i) sum[i] = 0.0f;
  MatrixLane lane{sum, a, nullptr, b};
  simt::meet(site, &lane, [](void **records, int) {
    const uint64_t rows = static_cast<const MatrixLane *>(records[0])->rows;
    const char *start = static_cast<const char *>(simt::shared_memory()) + ((rows & 0x3FFF) << 4);
    const int64_t across = int64_t(rows >> 16 & 0x3FFF) << 4, down = int64_t(rows >> 32 & 0x3FFF) << 4;
    float x[16][16], y[64][16];
    for (int n = 0; n < 64; ++n) {
      for (int k = 0; k < 16; ++k) {
        y[n][k] = load_float<Tag>(start + n / 8 * down + k / 8 * across + n % 8 * 16, k % 8);
      }
    }
    for (int l = 0; l < 32; ++l) {
      const auto *from = static_cast<const MatrixLane *>(records[l]);
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 8; ++i) x[g + i / 2 % 2 * 8][2 * t + i / 4 * 8 + i % 2] = number_of<Tag>(from->a, i);
      if (from->rows != rows) simt::stop("lanes of a warp describe different matrices");
    }
    for (int l = 0; l < 32; ++l) {
      float *to = static_cast<MatrixLane *>(records[l])->sum;
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 32; ++i) {
        for (int k = 0; k < 16; ++k) to[i] += x[g + i / 2 % 2 * 8][k] * y[i / 4 * 8 + 2 * t + i % 2][k];
      }
    }
  });
}
BNB_DEVICE void wgmma_begin(SIMT_SITE) { warp_barrier(site); }
BNB_DEVICE void wgmma_commit(SIMT_SITE) { warp_barrier(site); }
template <int kBehind>
BNB_DEVICE void wgmma_wait(SIMT_SITE) { warp_barrier(site); }
BNB_DEVICE void wgmma_keep(float (&)[32]) {}
BNB_DEVICE void wgmma_publish() {}

template <typename Tag>
static void mfma_16x16x16(float (&sum)[4], const uint32_t (&a)[2], const uint32_t (&b)[2], SIMT_SITE) {
  MatrixLane lane{sum, a, b, 0};
  simt::meet(site, &lane, [](void **records, int) {
    float x[16][16], y[16][16];
    for (int l = 0; l < 64; ++l) {
      const auto *from = static_cast<const MatrixLane *>(records[l]);
      for (int i = 0; i < 4; ++i) {
        x[l % 16][l / 16 * 4 + i] = number_of<Tag>(from->a, i);
        y[l % 16][l / 16 * 4 + i] = number_of<Tag>(from->b, i);
      }
    }
    for (int l = 0; l < 64; ++l) {
      float *to = static_cast<MatrixLane *>(records[l])->sum;
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 16; ++k) to[i] += x[l / 16 * 4 + i][k] * y[l % 16][k];
      }
    }
  });
}

// The int8 forms.
struct Int8Lane {
  int *sum;
  const uint32_t *a, *b;
};
static inline int int8_of(const uint32_t *registers, int i) { return int8_t(registers[i / 4] >> (i % 4 * 8)); }

static inline void mma_m16n8k32(int (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_SITE) {
  Int8Lane lane{sum, a, b};
  simt::meet(site, &lane, [](void **records, int) {
    int x[16][32], y[8][32];
    for (int l = 0; l < 32; ++l) {
      const auto *from = static_cast<const Int8Lane *>(records[l]);
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 16; ++i) x[g + i / 4 % 2 * 8][4 * t + i / 8 * 16 + i % 4] = int8_of(from->a, i);
      for (int i = 0; i < 8; ++i) y[g][4 * t + i / 4 * 16 + i % 4] = int8_of(from->b, i);
    }
    for (int l = 0; l < 32; ++l) {
      int *to = static_cast<Int8Lane *>(records[l])->sum;
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 32; ++k) to[i] += x[g + i / 2 * 8][k] * y[2 * t + i % 2][k];
      }
    }
  });
}

static inline void mfma_16x16x32(int (&sum)[4], const uint32_t (&a)[2], const uint32_t (&b)[2], SIMT_SITE) {
  Int8Lane lane{sum, a, b};
  simt::meet(site, &lane, [](void **records, int) {
    int x[16][32], y[16][32];
    for (int l = 0; l < 64; ++l) {
      const auto *from = static_cast<const Int8Lane *>(records[l]);
      for (int i = 0; i < 8; ++i) {
        x[l % 16][l / 16 * 8 + i] = int8_of(from->a, i);
        y[l % 16][l / 16 * 8 + i] = int8_of(from->b, i);
      }
    }
    for (int l = 0; l < 64; ++l) {
      int *to = static_cast<Int8Lane *>(records[l])->sum;
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 32; ++k) to[i] += x[l / 16 * 4 + i][k] * y[l % 16][k];
      }
    }
  });
}

BNB_DEVICE void copy_async(void *shared, const void *global, bool take) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (take && reinterpret_cast<uintptr_t>(global) % 16)) {
    simt::stop("an asynchronous copy from %p to %p, which are not aligned to its 16 bytes", global, shared);
  }
  simt::begin_copy({shared, take ? global : nullptr});
}
BNB_DEVICE void commit_copies() { simt::commit_copies(); }
template <int kBehind>
static void wait_for_copies() {
  struct Bytes {
    uint64_t at[2];
  };
  for (simt::Copy copy; simt::take_copy(kBehind, &copy);) {
    store<Bytes>(copy.to, 0, copy.from ? load<Bytes>(copy.from, 0) : Bytes{});
  }
}

}  // namespace bnb::gpu

#endif  // TESTS_SIMT_MATRIX_H_
