// SPDX-License-Identifier: MIT
// How kernels move data. A pointer is one to bytes; `aligned` says whether it is a multiple of 16, which the host knows of each.
#ifndef BNB_METAL_KERNELS_FLOATS_H_
#define BNB_METAL_KERNELS_FLOATS_H_

#include "metal/kernels/common.h"

namespace bnb {
namespace kernels {

enum : int { kItems = 16 };  // elements of a thread at once

// The float dtypes: what an element is in memory, and in fp32.
struct F32 {
  enum : int { kBytes = 4 };
  static inline float widen(uint bits) { return float_from_bits(bits); }
  static inline float widen_normal(uint bits) { return widen(bits); }
  static inline bool all_normal(uint4) { return true; }
  static inline uint narrow(float x) { return bits_from_float(x); }
};
struct F16 {
  enum : int { kBytes = 2 };
  // Subnormal numbers, of fp16 here, are those that Metal may take for zero.
  static inline float widen(uint bits) {
    return (bits & 0x7C00u) != 0 ? widen_normal(bits) : formats::float_from_fp16(uint16_t(bits));
  }
  static inline float widen_normal(uint bits) { return float(as_type<half>(ushort(bits))); }
  // Whether none of a vector's eight numbers is subnormal or zero: an exponent of zero borrows from the bit above it.
  static inline bool all_normal(uint4 vector) {
    uint borrowed = 0;
    BNB_UNROLL
    for (int w = 0; w < 4; ++w) borrowed |= (vector[w] & 0x7C007C00u) - 0x04000400u;
    return (borrowed & 0x80008000u) == 0;
  }
  static inline uint narrow(float x) {
    return (bits_from_float(x) & 0x7FFFFFFFu) >= 0x38800000u ? uint(as_type<ushort>(half(x))) : uint(formats::fp16_from_float(x));
  }
};
struct BF16 {
  enum : int { kBytes = 2 };
  static inline float widen(uint bits) { return formats::float_from_bf16(uint16_t(bits)); }
  static inline float widen_normal(uint bits) { return widen(bits); }
  static inline bool all_normal(uint4) { return true; }
  static inline uint narrow(float x) { return formats::bf16_from_float(x); }
};

// Element i of an array at any address, as bits.
inline uint load_32(device const uchar *array, bool aligned, long i) {
  if (aligned) return reinterpret_cast<device const uint *>(array)[i];
  device const uchar *place = array + 4 * i;
  return uint(place[0]) | uint(place[1]) << 8 | uint(place[2]) << 16 | uint(place[3]) << 24;
}
inline uint load_16(device const uchar *array, bool aligned, long i) {
  if (aligned) return reinterpret_cast<device const ushort *>(array)[i];
  return uint(array[2 * i]) | uint(array[2 * i + 1]) << 8;
}
inline void store_32(device uchar *array, bool aligned, long i, uint bits) {
  if (aligned) {
    reinterpret_cast<device uint *>(array)[i] = bits;
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < 4; ++j) array[4 * i + j] = uchar(bits >> uint(8 * j));
}
inline void store_16(device uchar *array, bool aligned, long i, uint bits) {
  if (aligned) {
    reinterpret_cast<device ushort *>(array)[i] = ushort(bits);
    return;
  }
  array[2 * i] = uchar(bits);
  array[2 * i + 1] = uchar(bits >> 8);
}
inline float load_f32(device const uchar *array, bool aligned, long i) { return float_from_bits(load_32(array, aligned, i)); }
inline void store_f32(device uchar *array, bool aligned, long i, float x) { store_32(array, aligned, i, bits_from_float(x)); }
template <typename Tag>
inline float load_float(device const uchar *array, bool aligned, long i) {
  return Tag::widen(Tag::kBytes == 4 ? load_32(array, aligned, i) : load_16(array, aligned, i));
}
template <typename Tag>
inline void store_float(device uchar *array, bool aligned, long i, float x) {
  if (Tag::kBytes == 4) {
    store_32(array, aligned, i, Tag::narrow(x));
  } else {
    store_16(array, aligned, i, Tag::narrow(x));
  }
}

// x[j] = element i + j for j < kCount, at a multiple of 16 bytes.
template <typename Tag, int kCount>
inline void widen_vectors(device const uchar *array, long i, thread float *x) {
  device const uint4 *vectors = reinterpret_cast<device const uint4 *>(array + i * Tag::kBytes);
  BNB_UNROLL
  for (int v = 0; v < kCount * Tag::kBytes / 16; ++v) {
    const uint4 vector = vectors[v];
    const bool normal = Tag::all_normal(vector);
    BNB_UNROLL
    for (int w = 0; w < 4; ++w) {
      const uint word = vector[w];
      if (Tag::kBytes == 4) {
        x[(4 * v + w) % kCount] = Tag::widen(word);
      } else {
        x[(8 * v + 2 * w) % kCount] = normal ? Tag::widen_normal(word & 0xFFFFu) : Tag::widen(word & 0xFFFFu);
        x[(8 * v + 2 * w + 1) % kCount] = normal ? Tag::widen_normal(word >> 16) : Tag::widen(word >> 16);
      }
    }
  }
}

// x[j] = element i + j for j < kCount, 0 past `count` of them. i is a multiple of kCount, 8 or 16.
template <typename Tag, int kCount = kItems>
inline void load_floats(device const uchar *array, bool aligned, long i, long count, thread float *x) {
  if (!aligned || count < kCount) {
    BNB_UNROLL
    for (int j = 0; j < kCount; ++j) x[j] = j < count ? load_float<Tag>(array, aligned, i + j) : 0.0f;
    return;
  }
  widen_vectors<Tag, kCount>(array, i, x);
}

// The inverse; writes `count` of them at most.
template <typename Tag, int kCount = kItems>
inline void store_floats(device uchar *array, bool aligned, long i, long count, thread const float *x) {
  if (!aligned || count < kCount) {
    BNB_UNROLL
    for (int j = 0; j < kCount; ++j) {
      if (j < count) store_float<Tag>(array, aligned, i + j, x[j]);
    }
    return;
  }
  device uint4 *vectors = reinterpret_cast<device uint4 *>(array + i * Tag::kBytes);
  BNB_UNROLL
  for (int v = 0; v < kCount * Tag::kBytes / 16; ++v) {
    uint4 vector;
    BNB_UNROLL
    for (int w = 0; w < 4; ++w) {
      vector[w] = Tag::kBytes == 4 ? Tag::narrow(x[(4 * v + w) % kCount])
                                   : Tag::narrow(x[(8 * v + 2 * w) % kCount]) | Tag::narrow(x[(8 * v + 2 * w + 1) % kCount]) << 16;
    }
    vectors[v] = vector;
  }
}

// x[j] = element i + j for j < 8. vectors: all such places are multiples of 16 bytes; aligned: of an element.
template <typename Tag>
inline void load_eight(device const uchar *array, bool vectors, bool aligned, long i, thread float *x) {
  if (vectors) {
    widen_vectors<Tag, 8>(array, i, x);
    return;
  }
  BNB_UNROLL
  for (int j = 0; j < 8; ++j) x[j] = load_float<Tag>(array, aligned, i + j);
}

// kWords words, 2 or 4, from byte i on, which is a multiple of as many bytes where `aligned`.
template <int kWords>
inline void load_words(device const uchar *array, bool aligned, long i, thread uint *words) {
  if (!aligned) {
    BNB_UNROLL
    for (int w = 0; w < kWords; ++w) words[w] = load_32(array + i, false, w);
    return;
  }
  if (kWords == 2) {
    const uint2 pair = *reinterpret_cast<device const uint2 *>(array + i);
    words[0] = pair[0];
    words[1] = pair[1];
    return;
  }
  const uint4 vector = *reinterpret_cast<device const uint4 *>(array + i);
  BNB_UNROLL
  for (int w = 0; w < kWords; ++w) words[w] = vector[w % 4];
}

// codes[j] to and from bytes i + j, likewise; kBytes of them, 8 or 16.
template <int kBytes>
inline void load_bytes(device const uchar *array, bool aligned, long i, long count, thread uchar *codes) {
  if (!aligned || count < kBytes) {
    BNB_UNROLL
    for (int j = 0; j < kBytes; ++j) codes[j] = j < count ? array[i + j] : uchar(0);
    return;
  }
  device const uint2 *vectors = reinterpret_cast<device const uint2 *>(array + i);
  BNB_UNROLL
  for (int v = 0; v < kBytes / 8; ++v) {
    const uint2 vector = vectors[v];
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) codes[8 * v + j] = uchar(vector[j / 4] >> uint(j % 4 * 8));
  }
}
template <int kBytes>
inline void store_bytes(device uchar *array, bool aligned, long i, long count, thread const uchar *codes) {
  if (!aligned || count < kBytes) {
    BNB_UNROLL
    for (int j = 0; j < kBytes; ++j) {
      if (j < count) array[i + j] = codes[j];
    }
    return;
  }
  device uint2 *vectors = reinterpret_cast<device uint2 *>(array + i);
  BNB_UNROLL
  for (int v = 0; v < kBytes / 8; ++v) {
    uint2 vector = {0, 0};
    BNB_UNROLL
    for (int j = 0; j < 8; ++j) vector[j / 4] |= uint(codes[8 * v + j]) << uint(j % 4 * 8);
    vectors[v] = vector;
  }
}

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_FLOATS_H_
