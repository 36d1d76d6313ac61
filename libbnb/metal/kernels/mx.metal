// SPDX-License-Identifier: MIT
// OCP microscaling (MXFP4, MXFP8) and NVFP4: blocks of 32 or 16 elements, scales of 8 bits. A block lies in the registers of one thread
// or of two neighbours, so that each element is read once; the scale of an NVFP4 tensor takes a read of its own. EXACT.
#include "formats/mx.h"
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/nibbles.h"
#include "metal/kernels/quantize_blocks.h"

using formats::E2M1;
using formats::fp8::E4M3FN;
using formats::fp8::E5M2;

inline bool is_infinite(float x) { return magnitude_bits(x) == kInfinityBits; }
inline bool is_finite(float x) { return magnitude_bits(x) < kInfinityBits; }

// How the elements of a block are turned into codes.
struct BlockScale {
  float factor;         // x is multiplied by this,
  float tensor, block;  // or divided by these two where it is infinite;
  bool only_infinities; // elements are infinite or zero,
  bool zeros;           // or all codes are those of zero
  uchar code;           // of the scale

  inline float of(float x) const {
    if (zeros) return 0.0f;
    if (only_infinities) return is_infinite(x) ? x : 0.0f;
    return is_infinite(factor) ? ieee::divide(ieee::divide(x, tensor), block) : ieee::multiply(x, factor);
  }
};

template <typename Format>
struct Mx {
  enum : int { kThreads = formats::mx::kBlock / kItems };  // that share a block

  static inline uchar code_of(int rule, float absmax) {
    if (rule != formats::mx::kRceil) return formats::mx::scale_code<Format>(rule, absmax);  // which is done in integers
    const uint quotient = bits_from_float(ieee::divide(absmax, Format::max_finite()));
    if (quotient <= bits_from_float(formats::e8m0::decode(0))) return 0;
    return uchar((quotient + formats::mx::rounding<Format>(rule)) >> 23);
  }
  static inline BlockScale scale(int rule, float, float absmax) {
    BlockScale made = {0.0f, 0.0f, 0.0f, false, !is_finite(absmax), formats::e8m0::kNanCode};
    if (made.zeros) return made;
    made.code = code_of(rule, absmax);
    made.factor = formats::e8m0::reciprocal(made.code);
    return made;
  }
};

struct Nvfp4 {
  enum : int { kThreads = formats::mx::kNvfp4Block / kItems };

  static inline BlockScale scale(int, float tensor, float absmax) {
    BlockScale made = {0.0f, tensor, 0.0f, false, false, formats::nvfp4::kSmallestScale};
    if (magnitude_bits(tensor) == 0 || !is_finite(tensor)) {
      made.only_infinities = is_infinite(tensor);
      made.zeros = !made.only_infinities;
      return made;
    }
    if (!is_finite(absmax)) {
      made.zeros = true;
      made.code = E4M3FN::kNanCode;
      return made;
    }
    const float wanted = ieee::divide(ieee::divide(absmax, E2M1::max_finite()), tensor);
    if (wanted >= formats::nvfp4::smallest_scale()) made.code = formats::fp8::encode<E4M3FN>(wanted);
    made.block = formats::fp8::decode<E4M3FN>(made.code);
    made.factor = ieee::divide(ieee::divide(1.0f, tensor), made.block);
    return made;
  }
};

// Codes of elements, and where they lie.
struct Fp4Elements {
  enum : int { kValues = 16 };
  static inline uchar encode(float x) { return formats::e2m1::encode(x); }
  static inline float value(device const uchar *, uint i) { return formats::e2m1::decode(uchar(i)); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_nibbles<false>(a, aligned, i, count, codes);
  }
  static inline void store(device uchar *out, bool aligned, long i, thread const uchar *codes) {
    store_nibbles<false>(out, aligned, i, kItems, codes);
  }
};
template <typename Format>
struct Fp8Elements {
  enum : int { kValues = 256 };
  static inline uchar encode(float x) { return formats::fp8::encode<Format>(x); }
  static inline float value(device const uchar *, uint i) { return formats::fp8::decode<Format>(uchar(i)); }
  static inline void load(device const uchar *a, bool aligned, long i, long count, thread uchar *codes) {
    load_bytes<kItems>(a, aligned, i, count, codes);
  }
  static inline void store(device uchar *out, bool aligned, long i, thread const uchar *codes) {
    store_bytes<kItems>(out, aligned, i, kItems, codes);
  }
};

template <typename Elements, typename Rule, typename Tag>
kernel void quantize(constant MxArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device uchar *out [[buffer(2)]],
                     device uchar *scale [[buffer(3)]], device const uchar *tensor_scale [[buffer(4)]],
                     uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                     uint groups [[threadgroups_per_grid]]) {
  const float tensor = args.has_tensor_scale != 0 ? load_f32(tensor_scale, false, 0) : 1.0f;
  for (long tile = group; tile * kTile < args.blocks.n; tile += groups) {
    const long i = tile * kTile + long(index) * kItems;
    float x[kItems];
    load_elements<Tag>(args.blocks, a, 0.0f, i, x);
    uint largest = largest_of(x);
    if (Rule::kThreads == 2) largest = max(largest, simd_shuffle_xor(largest, ushort(1)));
    if (i >= args.blocks.n) continue;  // blocks are whole: nobody has a part of his elements
    const BlockScale by = Rule::scale(args.rule, tensor, float_from_bits(largest));
    if (index % uint(Rule::kThreads) == 0) scale[i / (kItems * Rule::kThreads)] = by.code;
    uchar codes[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = Elements::encode(by.of(x[j]));
    Elements::store(out, args.blocks.aligned_out != 0, i, codes);
  }
}

BNB_FLOAT_KERNELS_WITH("quantize_mxfp4", quantize, Fp4Elements, Mx<E2M1>)
BNB_FLOAT_KERNELS_WITH("quantize_mxfp8_e4m3fn", quantize, Fp8Elements<E4M3FN>, Mx<E4M3FN>)
BNB_FLOAT_KERNELS_WITH("quantize_mxfp8_e5m2", quantize, Fp8Elements<E5M2>, Mx<E5M2>)
BNB_FLOAT_KERNELS_WITH("quantize_nvfp4", quantize, Fp4Elements, Nvfp4)

// The absmax of the tensor by what scale and element make of it together.
kernel void tensor_scale_of(device const uint *absmax [[buffer(1)]], device uchar *tensor_scale [[buffer(2)]],
                            uint index [[thread_position_in_grid]]) {
  if (index == 0) store_f32(tensor_scale, false, 0, ieee::divide(float_from_bits(absmax[0]), formats::nvfp4::tensor_divisor()));
}

BNB_FLOAT_KERNELS_WITH("dequantize_mxfp4", dequantize_blocks, Fp4Elements)
BNB_FLOAT_KERNELS_WITH("dequantize_mxfp8_e4m3fn", dequantize_blocks, Fp8Elements<E4M3FN>)
BNB_FLOAT_KERNELS_WITH("dequantize_mxfp8_e5m2", dequantize_blocks, Fp8Elements<E5M2>)
