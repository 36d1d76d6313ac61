// SPDX-License-Identifier: MIT
// How every format that divides blocks by their absmax is quantized: the largest magnitude of each block, then codes of what remains.
// EXACT: a maximum does not depend on the order it is taken in.
//
// A format is a struct Encoder with
//   kShared                                              ints of threadgroup memory that it wants, 1 or more
//   static fill(shared, code, index)                     called by every thread, before a barrier
//   static scale_of(absmax)                              what is stored for a block, and what its elements are divided by
//   static infinite()                                    what infinite elements of an infinite block become
//   static write(shared, out, aligned, i, count, unit)   codes of kItems normalised elements, the first being element i; `count` exist
#ifndef BNB_METAL_KERNELS_QUANTIZE_BLOCKS_H_
#define BNB_METAL_KERNELS_QUANTIZE_BLOCKS_H_

#include "metal/kernels/args.h"
#include "metal/kernels/floats.h"
#include "metal/kernels/ieee.h"

namespace bnb {
namespace kernels {

enum : int { kQuantizeThreads = 256, kTile = kItems * kQuantizeThreads };

// x' of bnb.h for the elements of a block.
struct Normaliser {
  float absmax, reciprocal;
  bool zero, infinite, divides;

  inline float unit(float x, float largest) const {
    if (zero) return 0.0f;
    if (infinite) return magnitude_bits(x) == kInfinityBits ? copysign(largest, x) : 0.0f;
    return divides ? ieee::divide(x, absmax) : ieee::multiply(x, reciprocal);
  }
};
inline Normaliser normaliser(float absmax) {
  const uint bits = bits_from_float(absmax);
  Normaliser made = {absmax, ieee::divide(1.0f, absmax), bits == 0, bits == kInfinityBits, false};
  made.divides = bits_from_float(made.reciprocal) == kInfinityBits;
  return made;
}

template <typename Tag>
inline void load_elements(constant QuantizeArgs &args, device const uchar *a, float subtracted, long i, thread float *x) {
  load_floats<Tag>(a, args.aligned_in != 0, i, args.n - i, x);
  if (args.subtracts == 0) return;
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) x[j] = i + j < args.n ? ieee::subtract(x[j], subtracted) : 0.0f;
}

inline uint largest_of(thread const float *x) {
  uint largest = 0;
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) largest = max(largest, magnitude_bits(x[j]));
  return largest;
}

// The largest of `threads` neighbouring threads, a power of two; all threads of the group take part. maxima: one per simdgroup.
inline uint largest_among(uint largest, int threads, threadgroup uint *maxima, uint lane, uint simdgroup) {
  if (threads < kLanes) {
    for (int mask = 1; mask < threads; mask *= 2) largest = max(largest, simd_shuffle_xor(largest, ushort(mask)));
    return largest;
  }
  largest = simd_max(largest);
  if (threads == kLanes) return largest;
  if (lane == 0) maxima[simdgroup] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int groups = threads / kLanes, first = int(simdgroup) / groups * groups;
  for (int i = 0; i < groups; ++i) largest = max(largest, maxima[first + i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next tile writes them
  return largest;
}

}  // namespace kernels
}  // namespace bnb

// Blocks of kItems times a power of two, at most a tile: each element is read once.
template <typename Encoder, typename Tag>
kernel void quantize_regular(constant QuantizeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                             device const uchar *subtracted [[buffer(2)]], device uchar *out [[buffer(3)]],
                             device uchar *scale [[buffer(4)]], device const uchar *code [[buffer(5)]],
                             uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                             uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]],
                             uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup int shared[Encoder::kShared];
  threadgroup uint maxima[kQuantizeThreads / kLanes];
  Encoder::fill(shared, code, index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float off = args.subtracts != 0 ? load_f32(subtracted, false, 0) : 0.0f;
  const int threads = int(args.blocksize.value / kItems);
  for (long tile = group; tile * kTile < args.n; tile += groups) {
    const long i = tile * kTile + long(index) * kItems;
    float x[kItems];
    load_elements<Tag>(args, a, off, i, x);
    const float absmax = Encoder::scale_of(float_from_bits(largest_among(largest_of(x), threads, maxima, lane, simdgroup)));
    if (i >= args.n) continue;
    if (int(index) % threads == 0) store_f32(scale, args.aligned_scale != 0, quotient(i, args.blocksize), absmax);
    const Normaliser by = normaliser(absmax);
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) x[j] = by.unit(x[j], Encoder::infinite());
    Encoder::write(shared, out, args.aligned_out != 0, i, args.n - i, x);
  }
}

// Any blocks, first: maxima[b] = bits of absmax, over the zeros that were there.
template <typename Tag>
kernel void measure_absmax(constant QuantizeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                           device const uchar *subtracted [[buffer(2)]], device atomic_uint *maxima [[buffer(3)]],
                           uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]], uint lane [[thread_index_in_simdgroup]]) {
  const float off = args.subtracts != 0 ? load_f32(subtracted, false, 0) : 0.0f;
  for (long tile = group; tile * kTile < args.n; tile += groups) {
    const long i = tile * kTile + long(index) * kItems;
    const long last = ((tile + 1) * kTile < args.n ? (tile + 1) * kTile : args.n) - 1;
    float x[kItems];
    load_elements<Tag>(args, a, off, i, x);
    const long first_block = quotient(tile * kTile, args.blocksize);
    if (first_block == quotient(last, args.blocksize)) {  // one block for all threads
      const uint largest = simd_max(largest_of(x));
      if (lane == 0) atomic_fetch_max_explicit(maxima + first_block, largest, memory_order_relaxed);
      continue;
    }
    if (i >= args.n) continue;
    long block = quotient(i, args.blocksize), end = (block + 1) * args.blocksize.value;
    uint largest = 0;
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      if (i + j >= args.n) break;
      if (i + j == end) {
        atomic_fetch_max_explicit(maxima + block, largest, memory_order_relaxed);
        ++block;
        end += args.blocksize.value;
        largest = 0;
      }
      largest = max(largest, magnitude_bits(x[j]));
    }
    atomic_fetch_max_explicit(maxima + block, largest, memory_order_relaxed);
  }
}

// Second: scales, and codes. maxima as they came out.
template <typename Encoder, typename Tag>
kernel void encode_any(constant QuantizeArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]],
                       device const uchar *subtracted [[buffer(2)]], device uchar *out [[buffer(3)]],
                       device uchar *scale [[buffer(4)]], device const uchar *code [[buffer(5)]],
                       device const uint *maxima [[buffer(6)]], uint index [[thread_position_in_threadgroup]],
                       uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  threadgroup int shared[Encoder::kShared];
  Encoder::fill(shared, code, index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float off = args.subtracts != 0 ? load_f32(subtracted, false, 0) : 0.0f;
  for (long tile = group; tile * kTile < args.n; tile += groups) {
    const long i = tile * kTile + long(index) * kItems;
    if (i >= args.n) continue;
    float x[kItems];
    load_elements<Tag>(args, a, off, i, x);
    long block = quotient(i, args.blocksize), end = (block + 1) * args.blocksize.value;
    Normaliser by = normaliser(Encoder::scale_of(float_from_bits(maxima[block])));
    if (i == block * args.blocksize.value) store_f32(scale, args.aligned_scale != 0, block, by.absmax);
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      if (i + j == end && i + j < args.n) {
        by = normaliser(Encoder::scale_of(float_from_bits(maxima[++block])));
        store_f32(scale, args.aligned_scale != 0, block, by.absmax);
        end += args.blocksize.value;
      }
      x[j] = by.unit(x[j], Encoder::infinite());
    }
    Encoder::write(shared, out, args.aligned_out != 0, i, args.n - i, x);
  }
}

#endif  // BNB_METAL_KERNELS_QUANTIZE_BLOCKS_H_
