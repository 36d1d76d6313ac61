// SPDX-License-Identifier: MIT
// The one header that knows which compiler reads it: the words that kernels speak, in CUDA, in HIP, and on the host under the
// emulator of tests/simt.
//
//   BNB_KERNEL, BNB_DEVICE        a kernel; a function that kernels call
//   BNB_THREADS(n)                after a kernel's `void`: blocks have at most n threads
//   BNB_UNROLL                    the loop behind it, so that its arrays stay in registers
//   BNB_SHARED                    static memory of a block
//   dynamic_shared()              the memory of a block that its launch asked for, aligned to 16 bytes
//   thread_index(), thread_count()   of the running thread in its block, and of threads in it; one dimension
//   grid_index(), grid_count()    of the running block in its grid, and of blocks in it
//   kWarp, lane_index(), warp_index()   lanes of a warp (AMD: a wave) and where a thread is
//   barrier(), warp_barrier()     every thread of the block, of the warp, gets there before one goes on
//   shuffle(x, lane), shuffle_xor(x, mask), shuffle_down(x, delta)   x of another lane; all lanes take part
//   ballot(condition)             bit i: lane i's condition
//   count_bits(bits)              how many are 1
//   atomic_max, atomic_add, atomic_or    on memory; returns what was there
//   atomic_load, atomic_store     on memory that other threads change at the same time
//   dot4(a, b, sum)               sum + the products of four int8 in a and in b
//
// Host code must not use kWarp: AMD has both sizes, and only the device's compiler knows.
#ifndef BNB_GPU_COMPAT_H_
#define BNB_GPU_COMPAT_H_

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)

#include <cuda_runtime.h>
#define BNB_KERNEL static __global__
#define BNB_DEVICE static __device__ __forceinline__
#define BNB_DEVICE_METHOD __device__ __forceinline__
#define BNB_SHARED __shared__
#define BNB_THREADS(threads) __launch_bounds__(threads)
#define BNB_UNROLL _Pragma("unroll")

namespace bnb::gpu {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

BNB_DEVICE void warp_barrier() { __syncwarp(); }
BNB_DEVICE uint64_t ballot(bool condition) { return __ballot_sync(kAllLanes, condition); }
template <typename T>
BNB_DEVICE T shuffle(T x, int lane) { return __shfl_sync(kAllLanes, x, lane); }
template <typename T>
BNB_DEVICE T shuffle_xor(T x, int mask) { return __shfl_xor_sync(kAllLanes, x, mask); }
template <typename T>
BNB_DEVICE T shuffle_down(T x, int delta) { return __shfl_down_sync(kAllLanes, x, delta); }

}  // namespace bnb::gpu

#elif defined(__HIPCC__)

#include <hip/hip_runtime.h>
#define BNB_KERNEL static __global__
#define BNB_DEVICE static __device__ __forceinline__
#define BNB_DEVICE_METHOD __device__ __forceinline__
#define BNB_SHARED __shared__
#define BNB_THREADS(threads) __launch_bounds__(threads)
#define BNB_UNROLL _Pragma("unroll")

namespace bnb::gpu {

#if defined(__AMDGCN_WAVEFRONT_SIZE__)
constexpr int kWarp = __AMDGCN_WAVEFRONT_SIZE__;
#elif defined(__AMDGCN_WAVEFRONT_SIZE)
constexpr int kWarp = __AMDGCN_WAVEFRONT_SIZE;
#else
constexpr int kWarp = 64;  // the host's pass, which compiles no kernel
#endif

BNB_DEVICE void warp_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
}
BNB_DEVICE uint64_t ballot(bool condition) { return __ballot(condition); }
template <typename T>
BNB_DEVICE T shuffle(T x, int lane) { return __shfl(x, lane); }
template <typename T>
BNB_DEVICE T shuffle_xor(T x, int mask) { return __shfl_xor(x, mask); }
template <typename T>
BNB_DEVICE T shuffle_down(T x, int delta) { return __shfl_down(x, delta); }

}  // namespace bnb::gpu

#else

#include <simt/device.h>

#endif

#if defined(__CUDACC__) || defined(__HIPCC__)

namespace bnb::gpu {

BNB_DEVICE uint32_t thread_index() { return threadIdx.x; }
BNB_DEVICE uint32_t thread_count() { return blockDim.x; }
BNB_DEVICE uint32_t grid_index() { return blockIdx.x; }
BNB_DEVICE uint32_t grid_count() { return gridDim.x; }
BNB_DEVICE uint32_t lane_index() { return threadIdx.x % kWarp; }
BNB_DEVICE uint32_t warp_index() { return threadIdx.x / kWarp; }
BNB_DEVICE void barrier() { __syncthreads(); }
BNB_DEVICE void *dynamic_shared() {
  extern __shared__ __attribute__((aligned(16))) unsigned char bnb_dynamic_shared[];
  return bnb_dynamic_shared;
}
BNB_DEVICE uint32_t count_bits(uint64_t bits) { return uint32_t(__popcll(bits)); }
BNB_DEVICE uint32_t atomic_max(uint32_t *p, uint32_t x) { return atomicMax(p, x); }
BNB_DEVICE uint32_t atomic_add(uint32_t *p, uint32_t x) { return atomicAdd(p, x); }
BNB_DEVICE uint32_t atomic_or(uint32_t *p, uint32_t x) { return atomicOr(p, x); }
BNB_DEVICE uint32_t atomic_load(const uint32_t *p) { return *static_cast<const volatile uint32_t *>(p); }
BNB_DEVICE void atomic_store(uint32_t *p, uint32_t x) { atomicExch(p, x); }

}  // namespace bnb::gpu

#endif

namespace bnb::gpu {

BNB_DEVICE int dot4(int a, int b, int sum) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 610
  return __dp4a(a, b, sum);
#elif defined(__gfx906__) || defined(__gfx908__) || defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || \
    defined(__gfx942__) || defined(__gfx950__) || defined(__gfx1011__) || defined(__gfx1012__) || defined(__gfx1030__) || \
    defined(__gfx1031__) || defined(__gfx1032__) || defined(__gfx1034__)
  return __builtin_amdgcn_sdot4(a, b, sum, false);
#elif defined(__gfx1100__) || defined(__gfx1101__) || defined(__gfx1102__) || defined(__gfx1103__) || defined(__gfx1150__) || \
    defined(__gfx1151__) || defined(__gfx1200__) || defined(__gfx1201__)
  return __builtin_amdgcn_sudot4(true, a, true, b, sum, false);
#else
  for (int i = 0; i < 32; i += 8) sum += int(int8_t(uint32_t(a) >> i)) * int(int8_t(uint32_t(b) >> i));
  return sum;
#endif
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_COMPAT_H_
