// SPDX-License-Identifier: MIT
// How every format that divides blocks by their absmax is quantized: the largest magnitude of each block, then codes of what
// remains. EXACT: a maximum does not depend on the order it is taken in.
//
// A format is a class Encoder with
//   Args, Shared                          what a launch gets; what a block keeps in shared memory
//   Encoder(const Args &, Shared &)       every thread; fills shared memory, the kernel's barrier comes after
//   scale_of(absmax)                      what is stored for a block, and what its elements are divided by
//   of_infinity()                         what an infinite element of an infinite block becomes, without its sign
//   write(out, i, count, unit, numbers)   codes of kItems normalised elements, the first being element i; `count` of them exist.
//                                         numbers: none is NaN, no magnitude above that of_infinity() by more than what rounds
//
// The plan: bf16 to 8 bits moves 3 bytes an element, so that a multiprocessor of an H200 (4.3 TB/s, 132 of them, 1.7 GHz) has to turn
// out six elements a clock, with about 20 instructions for each. Hence: what is rare (blocks of zeros, infinities, NaN, absmax without
// a reciprocal) is asked once for a thread's elements, not for each of them, and the largest magnitude is one instruction apiece.
#ifndef BNB_GPU_QUANTIZE_BLOCKS_H_
#define BNB_GPU_QUANTIZE_BLOCKS_H_

#include "gpu/launch.h"
#include "gpu/vectors.h"

namespace bnb::gpu {

constexpr int kItems = 16;             // elements that a thread has in registers
constexpr int kQuantizeThreads = 256;  // of a block
constexpr int kTile = kItems * kQuantizeThreads;

// Bits of |x|, which are ordered as magnitudes are; the canonical NaN, above infinity, for any NaN.
BNB_DEVICE uint32_t magnitude_bits(float x) {
  const uint32_t bits = formats::bits_from_float(x) & 0x7FFFFFFFu;
  return bits > 0x7F800000u ? 0x7FC00000u : bits;
}

// x' of bnb.h for the elements of a block.
class Normaliser {
 public:
  // Every x' is x * reciprocal(): so it is for all blocks but those of zeros, infinities, NaN and the smallest magnitudes.
  BNB_DEVICE_METHOD bool is_product() const { return product_; }
  BNB_DEVICE_METHOD float reciprocal() const { return reciprocal_; }

  BNB_DEVICE_METHOD explicit Normaliser(float absmax, float of_infinity = 1.0f)
      : absmax_(absmax), reciprocal_(1.0f / absmax), of_infinity_(of_infinity) {
    const uint32_t bits = formats::bits_from_float(absmax);
    zero_ = bits == 0;
    infinite_ = bits == 0x7F800000u;
    divide_ = formats::bits_from_float(reciprocal_) == 0x7F800000u;
    product_ = bits - 1 < 0x7F800000u - 1 && !divide_;  // not 0, below infinity
  }
  BNB_DEVICE_METHOD float operator()(float x) const {
    if (zero_) return 0.0f;
    if (infinite_) return magnitude_bits(x) == 0x7F800000u ? (x > 0.0f ? of_infinity_ : -of_infinity_) : 0.0f;
    return divide_ ? x / absmax_ : x * reciprocal_;
  }

 private:
  float absmax_, reciprocal_, of_infinity_;
  bool zero_, infinite_, divide_, product_;
};

// x[j] = x' of all elements of a thread, in a block of that scale; whether they are numbers.
template <typename Encoder>
BNB_DEVICE bool normalise(float scale, float *x) {
  const Normaliser unit(scale, Encoder::of_infinity());
  if (unit.is_product()) {
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) x[j] *= unit.reciprocal();
    return true;
  }
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) x[j] = unit(x[j]);
  return scale == scale;
}

struct BlockArgs {
  const void *a;  // [n]
  int64_t n, blocksize;
  const void *subtract;  // fp32 [1]: taken off every element first; NULL: nothing
  uint8_t *out;
  void *scale;  // fp32 [nb]
};

template <typename Tag>
BNB_DEVICE void load_elements(const BlockArgs &args, int64_t i, float *x) {
  load_floats<Tag, kItems>(args.a, i, args.n - i, x);
  if (!args.subtract) return;
  const float subtract = load<float>(args.subtract, 0);
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) x[j] = i + j < args.n ? x[j] - subtract : 0.0f;
}

// magnitude_bits() of the largest.
BNB_DEVICE uint32_t largest_of(const float *x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float largest = 0.0f;
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) asm("max.NaN.f32 %0, %0, %1;" : "+f"(largest) : "f"(fabsf(x[j])));
  return magnitude_bits(largest);
#else
  uint32_t largest = 0;
  BNB_UNROLL
  for (int j = 0; j < kItems; ++j) {
    const uint32_t bits = formats::bits_from_float(x[j]) & 0x7FFFFFFFu;
    largest = bits > largest ? bits : largest;
  }
  return magnitude_bits(formats::float_from_bits(largest));  // bits of NaN are above all others
#endif
}

// The largest of `threads` neighbouring threads, a power of two; all threads of the block take part. maxima: shared, one per warp.
BNB_DEVICE uint32_t largest_among(uint32_t largest, int threads, uint32_t *maxima) {
  for (int mask = 1; mask < threads && mask < kWarp; mask *= 2) {
    const uint32_t other = shuffle_xor(largest, mask);
    if (other > largest) largest = other;
  }
  if (threads <= kWarp) return largest;
  if (lane_index() == 0) maxima[warp_index()] = largest;
  barrier();
  const int warps = threads / kWarp, first = int(warp_index()) / warps * warps;
  for (int i = 0; i < warps; ++i) {
    if (maxima[first + i] > largest) largest = maxima[first + i];
  }
  barrier();  // before the next tile writes them
  return largest;
}

// Blocks of kItems times a power of two, at most a tile: each element is read once.
template <typename Tag, typename Encoder>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads)
    quantize_regular(BlockArgs args, int blocksize_bits, typename Encoder::Args more) {
  BNB_SHARED typename Encoder::Shared shared;
  BNB_SHARED uint32_t maxima[kQuantizeThreads / 32];
  const Encoder encoder(more, shared);
  barrier();
  const int threads = (1 << blocksize_bits) / kItems;
  for (int64_t tile = grid_index(); tile * kTile < args.n; tile += grid_count()) {
    const int64_t i = tile * kTile + int64_t(thread_index()) * kItems;
    float x[kItems];
    load_elements<Tag>(args, i, x);
    const float scale = encoder.scale_of(formats::float_from_bits(largest_among(largest_of(x), threads, maxima)));
    if (i >= args.n) continue;
    if ((thread_index() & uint32_t(threads - 1)) == 0) store<float>(args.scale, i >> blocksize_bits, scale);
    const bool numbers = normalise<Encoder>(scale, x);
    encoder.write(args.out, i, args.n - i, x, numbers);
  }
}

// Any blocks, first: scale[b] = bits of absmax, over the zeros that were there.
template <typename Tag>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads) measure_absmax(BlockArgs args, Divisor blocksize) {
  uint32_t *maxima = static_cast<uint32_t *>(args.scale);
  for (int64_t tile = grid_index(); tile * kTile < args.n; tile += grid_count()) {
    const int64_t i = tile * kTile + int64_t(thread_index()) * kItems;
    const int64_t first = i - int64_t(lane_index()) * kItems, past = first + kWarp * kItems;  // of the warp's elements
    float x[kItems];
    load_elements<Tag>(args, i, x);
    const int64_t first_block = blocksize.of(first);
    if (past <= (first_block + 1) * blocksize.value || args.n <= (first_block + 1) * blocksize.value) {
      const uint32_t largest = largest_among(largest_of(x), kWarp, nullptr);
      if (lane_index() == 0 && first < args.n) atomic_max(maxima + first_block, largest);
      continue;
    }
    if (i >= args.n) continue;
    int64_t block = blocksize.of(i), end = (block + 1) * blocksize.value;
    uint32_t largest = 0;
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      if (i + j >= args.n) break;
      if (i + j == end) {
        atomic_max(maxima + block, largest);
        ++block;
        end += blocksize.value;
        largest = 0;
      }
      const uint32_t bits = magnitude_bits(x[j]);
      if (bits > largest) largest = bits;
    }
    atomic_max(maxima + block, largest);
  }
}

// Second: scales of absmax, which may lie in the same place.
template <typename Encoder>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads)
    turn_into_scales(const void *absmax, void *scale, int64_t blocks, typename Encoder::Args more) {
  BNB_SHARED typename Encoder::Shared shared;
  const Encoder encoder(more, shared);
  for (int64_t i = int64_t(grid_index()) * thread_count() + thread_index(); i < blocks;
       i += int64_t(grid_count()) * thread_count()) {
    store<float>(scale, i, encoder.scale_of(load<float>(absmax, i)));
  }
}

// Third: codes.
template <typename Tag, typename Encoder>
BNB_KERNEL void BNB_THREADS(kQuantizeThreads) encode_any(BlockArgs args, Divisor blocksize, typename Encoder::Args more) {
  BNB_SHARED typename Encoder::Shared shared;
  const Encoder encoder(more, shared);
  barrier();
  for (int64_t tile = grid_index(); tile * kTile < args.n; tile += grid_count()) {
    const int64_t i = tile * kTile + int64_t(thread_index()) * kItems;
    if (i >= args.n) continue;
    float x[kItems];
    load_elements<Tag>(args, i, x);
    int64_t block = blocksize.of(i);
    const int64_t end = (block + 1) * blocksize.value;
    float scale = load<float>(args.scale, block);
    bool numbers = true;
    if (end - i >= kItems || end >= args.n) {
      numbers = normalise<Encoder>(scale, x);
    } else {
      Normaliser unit(scale, Encoder::of_infinity());
      int64_t left = end - i;
      BNB_UNROLL
      for (int j = 0; j < kItems; ++j) {
        if (j == left && i + j < args.n) {
          scale = load<float>(args.scale, ++block);
          unit = Normaliser(scale, Encoder::of_infinity());
          left += blocksize.value;
        }
        x[j] = unit(x[j]);
        numbers = numbers && scale == scale;
      }
    }
    encoder.write(args.out, i, args.n - i, x, numbers);
  }
}

inline bool is_regular(int64_t blocksize) {
  return blocksize >= kItems && blocksize <= kTile && (blocksize & (blocksize - 1)) == 0;
}

inline Grid quantize_grid(const Queue &queue, int64_t n) {
  constexpr int kPerMultiprocessor = 4;
  return {blocks_for(queue, ceil_div(n, kTile), kPerMultiprocessor), kQuantizeThreads};
}

// args.scale = what the encoder makes of the absmax of each block; n > 0.
template <typename Tag, typename Encoder>
bnb_status measure_scales(const BlockArgs &args, const typename Encoder::Args &more, const Queue &queue) {
  const int64_t blocks = block_count(args.n, args.blocksize);
  const size_t bytes = size_t(blocks) * sizeof(float);
  const bool aligned = reinterpret_cast<uintptr_t>(args.scale) % sizeof(float) == 0;  // atomics need that
  const Workspace workspace(queue, aligned ? 0 : bytes);
  if (workspace.status() != BNB_OK) return workspace.status();
  BlockArgs with_scale = args;
  if (!aligned) with_scale.scale = workspace.data();
  bnb_status status = set_bytes(queue, with_scale.scale, 0, bytes);
  if (status == BNB_OK) {
    status = launch(measure_absmax<Tag>, quantize_grid(queue, args.n), queue, with_scale, Divisor(args.blocksize));
  }
  if (status != BNB_OK) return status;
  const Grid over_blocks{blocks_for(queue, ceil_div(blocks, kQuantizeThreads), 4), kQuantizeThreads};
  return launch(turn_into_scales<Encoder>, over_blocks, queue, with_scale.scale, args.scale, blocks, more);
}

template <typename Tag, typename Encoder>
bnb_status quantize_blocks(const BlockArgs &args, const typename Encoder::Args &more, const Queue &queue) {
  if (args.n == 0) return BNB_OK;
  const Grid grid = quantize_grid(queue, args.n);
  if (is_regular(args.blocksize)) {
    return launch(quantize_regular<Tag, Encoder>, grid, queue, args, Divisor(args.blocksize).shift, more);
  }
  const bnb_status status = measure_scales<Tag, Encoder>(args, more, queue);
  if (status != BNB_OK) return status;
  return launch(encode_any<Tag, Encoder>, grid, queue, args, Divisor(args.blocksize), more);
}

}  // namespace bnb::gpu

#endif  // BNB_GPU_QUANTIZE_BLOCKS_H_
