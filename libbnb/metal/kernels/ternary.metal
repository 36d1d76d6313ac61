// SPDX-License-Identifier: MIT
// Ternary quantization in three layouts (formats/ternary.h): the scale of each block, absmax or the mean of |a|, then codes. EXACT.
#include "formats/ternary.h"
#include "metal/kernels/absmean.h"
#include "metal/kernels/dequantize_blocks.h"
#include "metal/kernels/quantize_blocks.h"

using formats::ternary::Place;
using formats::ternary::TQ1;
using formats::ternary::TQ2;
using formats::ternary::TwoBits;

enum : int { kGgufBlock = formats::ternary::kBlock };

BNB_FLOAT_KERNELS("sum_magnitudes", sum_magnitudes)
BNB_FLOAT_KERNELS("sum_small_blocks", sum_small_blocks)

// sections[s]: the sum of the pieces of section s % sections of block s / sections.
kernel void sum_sections(constant AbsmeanArgs &args [[buffer(0)]], device const ulong *pieces [[buffer(1)]],
                         device ulong *sections [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                         uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  const long count = args.blocks * args.sections.value;
  for (long i = long(group) * kSumThreads + index; i < count; i += long(groups) * kSumThreads) {
    const long block = quotient(i, args.sections), first = (i - block * args.sections.value) * kSumSection;
    const long last = smaller(first + kSumSection, args.pieces.value);
    Float64 sum = 0;
    for (long piece = first; piece < last; ++piece) sum = f64_add(sum, pieces[block * args.pieces.value + piece]);
    sections[i] = sum;
  }
}

// means[b], fp32: the sections of block b, divided by its elements.
kernel void means_of_sections(constant AbsmeanArgs &args [[buffer(0)]], device const ulong *sections [[buffer(1)]],
                              device uint *means [[buffer(2)]], uint index [[thread_position_in_threadgroup]],
                              uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  for (long block = long(group) * kSumThreads + index; block < args.blocks; block += long(groups) * kSumThreads) {
    Float64 sum = 0;
    for (long i = 0; i < args.sections.value; ++i) sum = f64_add(sum, sections[block * args.sections.value + i]);
    const long elements = smaller(args.blocksize, args.n - block * args.blocksize);
    means[block] = bits_from_float(f64_to_float(f64_divide(sum, f64_from_long(elements))));
  }
}

struct Absmean {
  static inline float limit() { return formats::ternary::limit_of_absmean(); }
};
struct Absmax {
  static inline float limit() { return formats::ternary::limit_of_absmax(); }
};

// Four codes a byte.
template <typename Rule>
struct EncodeTwoBits {
  enum : int { kShared = 1, kBytes = kItems / TwoBits::kCodes };

  static inline void fill(threadgroup int *, device const uchar *, uint) {}
  static inline float scale_of(float scale) { return scale; }
  static inline float infinite() { return 1.0f; }
  static inline void write(threadgroup const int *, device uchar *out, bool, long i, long count, thread const float *unit) {
    for (int j = 0; j < kBytes; ++j) {
      uchar byte = 0;
      for (int k = 0; k < TwoBits::kCodes; ++k) {
        const float x = TwoBits::kCodes * j + k < count ? unit[TwoBits::kCodes * j + k] : 0.0f;  // what is missing is a zero
        byte = uchar(byte | TwoBits::bits(formats::ternary::encode(x, Rule::limit()), k));
      }
      if (TwoBits::kCodes * j < count) out[i / TwoBits::kCodes + j] = byte;
    }
  }
};

BNB_FLOAT_KERNELS_WITH("quantize_ternary_absmax_regular", quantize_regular, EncodeTwoBits<Absmax>)
BNB_FLOAT_KERNELS_WITH("quantize_ternary_absmax_any", encode_any, EncodeTwoBits<Absmax>)
BNB_FLOAT_KERNELS_WITH("quantize_ternary_absmean_any", encode_any, EncodeTwoBits<Absmean>)

struct DecodeTwoBits {
  enum : int { kValues = 4 };
  static inline float value(device const uchar *, uint i) { return float(formats::ternary::value(uchar(i))); }
  static inline void load(device const uchar *a, bool, long i, long count, thread uchar *codes) {
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) codes[j] = j < count ? TwoBits::code(a[(i + j) / TwoBits::kCodes], j % TwoBits::kCodes) : uchar(0);
  }
};

BNB_FLOAT_KERNELS_WITH("dequantize_ternary", dequantize_blocks, DecodeTwoBits)

// What a byte of a GGUF block is made of: code `index` is that of this weight, for index below codes_of(byte).
struct LayoutTQ2 {
  typedef TQ2 Format;
  static inline int codes_of(int) { return TwoBits::kCodes; }
  static inline int weight_at(int byte, int index) {
    return byte / TQ2::kRow * (TwoBits::kCodes * TQ2::kRow) + index * TQ2::kRow + byte % TQ2::kRow;
  }
  static inline int part(uchar code, int index) { return TwoBits::bits(code, index); }
  static inline uchar whole(int sum) { return uchar(sum); }
};
struct LayoutTQ1 {
  typedef TQ1 Format;
  static inline int codes_of(int byte) { return byte < TQ1::kFirst + TQ1::kSecond ? TQ1::kDigits : TQ1::kDigits - 1; }
  static inline int weight_at(int byte, int index) {
    if (byte < TQ1::kFirst) return index * TQ1::kFirst + byte;
    if (byte < TQ1::kFirst + TQ1::kSecond) return TQ1::kSecondWeight + index * TQ1::kSecond + byte - TQ1::kFirst;
    return TQ1::kThirdWeight + index * TQ1::kThird + byte - TQ1::kFirst - TQ1::kSecond;
  }
  static inline int part(uchar code, int index) { return code * TQ1::weight_of(index); }
  static inline uchar whole(int sum) { return TQ1::byte_of(sum); }
};

enum : int { kBytesOfBlock = 64, kBlocksAtOnce = kQuantizeThreads / kBytesOfBlock };  // threads that share a block, a byte of codes each

// The weights of neighbouring bytes are neighbours: threads read as they write, side by side. scales: bits of fp32, one for each block.
template <typename Layout, typename Rule, typename Tag>
kernel void encode_gguf(constant GgufArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device const uint *scales [[buffer(2)]],
                        device uchar *out [[buffer(3)]], device uchar *scale [[buffer(4)]], uint index [[thread_position_in_threadgroup]],
                        uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]]) {
  typedef typename Layout::Format Format;
  const int byte = int(index) % kBytesOfBlock;
  for (long first = long(group) * kBlocksAtOnce; first < args.blocks; first += long(groups) * kBlocksAtOnce) {
    const long block = first + index / kBytesOfBlock;
    if (block >= args.blocks) continue;
    const long of_scales = quotient(block * kGgufBlock, args.blocksize);
    const float absmax = float_from_bits(scales[of_scales]);
    const Normaliser by = normaliser(absmax);
    device uchar *bytes = out + block * Format::kBytes;
    if (byte < Format::kCodeBytes) {
      int sum = 0;
      for (int i = 0; i < Layout::codes_of(byte); ++i) {
        const float x = load_float<Tag>(a, args.aligned_in != 0, block * kGgufBlock + Layout::weight_at(byte, i));
        sum += Layout::part(formats::ternary::encode(by.unit(x, 1.0f), Rule::limit()), i);
      }
      bytes[byte] = Layout::whole(sum);
    }
    if (byte < 2) bytes[Format::kCodeBytes + byte] = uchar(formats::fp16_from_float(absmax) >> (8 * byte));
    if (byte == 2 && args.writes_scales != 0 && of_scales * args.blocksize.value == block * kGgufBlock) {
      store_f32(scale, args.aligned_scale != 0, of_scales, absmax);
    }
  }
}

BNB_FLOAT_KERNELS_WITH("quantize_tq1_absmax", encode_gguf, LayoutTQ1, Absmax)
BNB_FLOAT_KERNELS_WITH("quantize_tq1_absmean", encode_gguf, LayoutTQ1, Absmean)
BNB_FLOAT_KERNELS_WITH("quantize_tq2_absmax", encode_gguf, LayoutTQ2, Absmax)
BNB_FLOAT_KERNELS_WITH("quantize_tq2_absmean", encode_gguf, LayoutTQ2, Absmean)

template <typename Format, typename Tag>
kernel void dequantize_gguf(constant GgufArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device uchar *out [[buffer(2)]],
                            uint index [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                            uint groups [[threadgroups_per_grid]]) {
  const long n = args.blocks * kGgufBlock;
  for (long i = (long(group) * kQuantizeThreads + index) * kItems; i < n; i += long(groups) * kQuantizeThreads * kItems) {
    device const uchar *bytes = a + i / kGgufBlock * Format::kBytes;
    const float scale = formats::float_from_fp16(uint16_t(bytes[Format::kCodeBytes] | bytes[Format::kCodeBytes + 1] << 8));
    float x[kItems];
    BNB_UNROLL
    for (int j = 0; j < kItems; ++j) {
      const Place place = Format::place_of(int(i % kGgufBlock) + j);
      x[j] = ieee::multiply(float(formats::ternary::value(Format::code(bytes[place.byte], place.index))), scale);
    }
    store_floats<Tag>(out, args.aligned_out != 0, i, kItems, x);
  }
}

BNB_FLOAT_KERNELS_WITH("dequantize_tq1", dequantize_gguf, TQ1)
BNB_FLOAT_KERNELS_WITH("dequantize_tq2", dequantize_gguf, TQ2)
