// SPDX-License-Identifier: MIT
// The matrix instructions of GPUs, and the copies that feed them, as words: PTX for CUDA, builtins for HIP, and lane by lane on the
// host (tests/simt/matrix.h). Tag is F16 or BF16, sums are fp32; registers hold two 16-bit numbers, the first in the low half.
//
//   mma_m16n8k16<Tag>(sum, a, b)        sum += a b^T of a warp of 32 lanes. With g = lane / 4 and t = lane % 4:
//     a[0], a[1], a[2], a[3]              a[row][k], [row][k + 1]: row g, g + 8, g, g + 8; k = 2 t, 2 t, 2 t + 8, 2 t + 8
//     b[0], b[1]                          b[g][k], [g][k + 1]: k = 2 t, 2 t + 8
//     sum[0], sum[1], sum[2], sum[3]      rows g, g, g + 8, g + 8 of a; rows 2 t, 2 t + 1, 2 t, 2 t + 1 of b
//   wgmma_m64n64k16<Tag>(sum, a, b, add)   the same of four warps together, each with 16 rows of a as above; without `add` sums
//     start at zero. b describes 64 rows in
//                                       shared memory (wgmma_rows); sum[4 j ..] are those of its rows 8 j .. 8 j + 7
//     wgmma_begin(), wgmma_commit()       before the first and after the last of a group that works in the background
//     wgmma_wait<kBehind>()               until all groups but the last kBehind are done; wgmma_keep(sum) comes behind it
//     wgmma_publish()                     writes to shared memory become visible to wgmma; a barrier follows
//   mfma_16x16x16<Tag>(sum, a, b)       sum += a b^T of a wave of 64 lanes. With i = lane % 16 and q = lane / 16:
//     a[0], a[1]; b[0], b[1]              a[i][4 q ..]; b[i][4 q ..]
//     sum[0 .. 3]                         rows 4 q .. 4 q + 3 of a; row i of b
//   mma_m16n8k32(sum, a, b)             int8, sums are int32; as mma_m16n8k16 with four numbers in a register for every two there
//   mfma_16x16x32(sum, a, b)            int8, likewise: lane i + 16 q has eight of row i of a and of b; which columns the lanes of a q
//                                       have is theirs to know, the same of both
//   multiply_pair<Tag>(x, y)            two 16-bit products; exact ones are all that anybody needs
//   copy_async(shared, global, take)    16 bytes, both places aligned to them; without `take` zeros, and nothing is read
//     commit_copies()                     ends a group of the thread's copies
//     wait_for_copies<kBehind>()          until all groups but the last kBehind are there, for this thread: a barrier follows
//
// Which of them a device has, host code asks has_mma(), has_wgmma() and has_mfma(); kernels have kMatrixLevel. Where there are
// none the words do nothing.
#ifndef BNB_GPU_MATRIX_H_
#define BNB_GPU_MATRIX_H_

#include <atomic>

#include "gpu/launch.h"

namespace bnb::gpu {

// 0: none; 1: mma or mfma; 2: wgmma, too. Of the code that is being compiled.
#if defined(__CUDACC__)
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kMatrixLevel = 2;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
constexpr int kMatrixLevel = 1;
#else
constexpr int kMatrixLevel = 0;
#endif
#elif defined(__HIPCC__)
#if defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__)
constexpr int kMatrixLevel = 1;
#else
constexpr int kMatrixLevel = 0;
#endif
#else
constexpr int kMatrixLevel = kWarp == 32 ? 2 : 1;
#endif

}  // namespace bnb::gpu

#if defined(__CUDACC__)

namespace bnb::gpu {

template <typename Tag>
BNB_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (Tag::kDType == DType::kF16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
  (void)sum, (void)a, (void)b;
#endif
}

BNB_DEVICE void mma_m16n8k32(int (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  (void)sum, (void)a, (void)b;
#endif
}

template <typename Tag>
BNB_DEVICE uint32_t multiply_pair(uint32_t x, uint32_t y) {
  uint32_t product = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (Tag::kDType == DType::kF16) {
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(x), "r"(y));
  } else {  // plus -0: there is no plain product before sm_90
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(x), "r"(y), "r"(0x80008000u));
  }
#else
  (void)x, (void)y;
#endif
  return product;
}

BNB_DEVICE uint32_t shared_address(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

BNB_DEVICE void copy_async(void *shared, const void *global, bool take) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(take ? 16 : 0)
               : "memory");
#else
  (void)shared, (void)global, (void)take;
#endif
}
BNB_DEVICE void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kBehind>
BNB_DEVICE void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kBehind) : "memory");
#endif
}

// Rows of 16-bit numbers in pieces of 8 rows by 16 bytes, each 128 bytes in a row: `across` bytes from a piece to the next along
// k, `down` bytes to that of the next 8 rows. No swizzle.
BNB_DEVICE uint64_t wgmma_rows(const void *shared, uint32_t across, uint32_t down) {
  return uint64_t((shared_address(shared) & 0x3FFFFu) >> 4) | uint64_t(across >> 4) << 16 | uint64_t(down >> 4) << 32;
}

#define BNB_SUMS8(c, i) \
  c(sum[i]), c(sum[i + 1]), c(sum[i + 2]), c(sum[i + 3]), c(sum[i + 4]), c(sum[i + 5]), c(sum[i + 6]), c(sum[i + 7])
#define BNB_WGMMA(type)                                                                                                    \
  asm volatile("{.reg .pred add; setp.ne.b32 add, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type         \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
               "%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, add, 1, 1, 0;}"                                                 \
               : BNB_SUMS8("+f", 0), BNB_SUMS8("+f", 8), BNB_SUMS8("+f", 16), BNB_SUMS8("+f", 24)                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)))

template <typename Tag>
BNB_DEVICE void wgmma_m64n64k16(float (&sum)[32], const uint32_t (&a)[4], uint64_t b, bool add) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (Tag::kDType == DType::kF16) {
    BNB_WGMMA("f16");
  } else {
    BNB_WGMMA("bf16");
  }
#else
  (void)sum, (void)a, (void)b, (void)add;
#endif
}
BNB_DEVICE void wgmma_begin() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
BNB_DEVICE void wgmma_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int kBehind>
BNB_DEVICE void wgmma_wait() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kBehind) : "memory");
#endif
}
// The compiler must not move what it does with sums in front of the wait.
BNB_DEVICE void wgmma_keep(float (&sum)[32]) {
  asm volatile("" : BNB_SUMS8("+f", 0), BNB_SUMS8("+f", 8), BNB_SUMS8("+f", 16), BNB_SUMS8("+f", 24)::"memory");
}
BNB_DEVICE void wgmma_publish() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#undef BNB_WGMMA
#undef BNB_SUMS8

}  // namespace bnb::gpu

#elif defined(__HIPCC__)

namespace bnb::gpu {

template <typename Tag>
BNB_DEVICE uint32_t multiply_pair(uint32_t x, uint32_t y) {
  if constexpr (Tag::kDType == DType::kF16) {
    using Two = __attribute__((ext_vector_type(2))) _Float16;
    return __builtin_bit_cast(uint32_t, __builtin_bit_cast(Two, x) * __builtin_bit_cast(Two, y));
  }
  const float low = formats::float_from_bits(x << 16) * formats::float_from_bits(y << 16);
  const float high = formats::float_from_bits(x & 0xFFFF0000u) * formats::float_from_bits(y & 0xFFFF0000u);
  return formats::bits_from_float(low) >> 16 | (formats::bits_from_float(high) & 0xFFFF0000u);
}

// There is no copy in the background: it is done at once.
BNB_DEVICE void copy_async(void *shared, const void *global, bool take) {
  struct alignas(16) Bytes {
    uint32_t at[4];
  };
  *static_cast<Bytes *>(shared) = take ? *static_cast<const Bytes *>(global) : Bytes{};
}
BNB_DEVICE void commit_copies() {}
template <int kBehind>
BNB_DEVICE void wait_for_copies() {}

template <typename Tag>
BNB_DEVICE void mfma_16x16x16(float (&sum)[4], const uint32_t (&a)[2], const uint32_t (&b)[2]) {
#if defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__)
  using Sums = __attribute__((ext_vector_type(4))) float;
  using Pair = __attribute__((ext_vector_type(2))) uint32_t;
  Sums sums{sum[0], sum[1], sum[2], sum[3]};
  if constexpr (Tag::kDType == DType::kF16) {
    using Four = __attribute__((ext_vector_type(4))) _Float16;
    sums = __builtin_amdgcn_mfma_f32_16x16x16f16(__builtin_bit_cast(Four, Pair{a[0], a[1]}),
                                                 __builtin_bit_cast(Four, Pair{b[0], b[1]}), sums, 0, 0, 0);
  } else {
    using Four = __attribute__((ext_vector_type(4))) short;
    sums = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(Four, Pair{a[0], a[1]}),
                                                     __builtin_bit_cast(Four, Pair{b[0], b[1]}), sums, 0, 0, 0);
  }
  for (int i = 0; i < 4; ++i) sum[i] = sums[i];
#else
  (void)sum, (void)a, (void)b;
#endif
}

BNB_DEVICE void mfma_16x16x32(int (&sum)[4], const uint32_t (&a)[2], const uint32_t (&b)[2]) {
#if defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__)
  using Sums = __attribute__((ext_vector_type(4))) int;
  Sums sums{sum[0], sum[1], sum[2], sum[3]};
#if defined(__gfx90a__)
  for (int i = 0; i < 2; ++i) sums = __builtin_amdgcn_mfma_i32_16x16x16i8(int(a[i]), int(b[i]), sums, 0, 0, 0);
#else
  sums = __builtin_amdgcn_mfma_i32_16x16x32_i8(long(a[0] | uint64_t(a[1]) << 32), long(b[0] | uint64_t(b[1]) << 32), sums, 0, 0, 0);
#endif
  for (int i = 0; i < 4; ++i) sum[i] = sums[i];
#else
  (void)sum, (void)a, (void)b;
#endif
}

}  // namespace bnb::gpu

#else

#include <simt/matrix.h>

#endif

namespace bnb::gpu {

#if defined(__CUDACC__)
// A device may run code for another one than its own, older or of a wider family. The driver knows how many threads a kernel was
// compiled for, and with that which of them this is.
BNB_KERNEL void BNB_THREADS(32 << kMatrixLevel) say_matrix_level() {}

inline int matrix_level(const Queue &queue) {
  constexpr int kDevices = 64;
  static std::atomic<int> known[kDevices];  // 0: not asked yet
  const int id = queue.device.device_id;
  if (id < kDevices && known[id].load()) return known[id].load() - 1;
  const DeviceScope device(id);
  cudaFuncAttributes attributes;
  if (device.status() != BNB_OK) return 0;
  if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(say_matrix_level)) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  const int level = attributes.maxThreadsPerBlock == 128 ? 2 : attributes.maxThreadsPerBlock == 64 ? 1 : 0;
  if (id < kDevices) known[id] = level + 1;
  return level;
}
#elif defined(__HIPCC__)
inline int matrix_level(const Queue &queue) {  // code of another device does not load at all
  const int arch = device_of(queue).arch;
  return arch == 0x90a || (arch >= 0x940 && arch <= 0x950) ? 1 : 0;
}
#else
inline int matrix_level(const Queue &) { return kMatrixLevel; }
#endif

#if defined(__CUDACC__)
constexpr bool kNvidia = true;
#elif defined(__HIPCC__)
constexpr bool kNvidia = false;
#else
constexpr bool kNvidia = kWarp == 32;
#endif

inline bool has_mma(const Queue &queue) { return kNvidia && matrix_level(queue) >= 1; }
inline bool has_wgmma(const Queue &queue) { return kNvidia && matrix_level(queue) >= 2; }
inline bool has_mfma(const Queue &queue) { return !kNvidia && matrix_level(queue) >= 1; }

}  // namespace bnb::gpu

#endif  // BNB_GPU_MATRIX_H_
