// SPDX-License-Identifier: MIT
// FP8 with one scale per block: out = encode(x * (1 / scale)), and out = decode(code) * scale. EXACT.
//
// One byte per element (formats/fp8.h). A block may have any number of elements at any address: vectors by four, by
// one, then the first lanes of one.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/small_floats.h"
#include "cpu/kernels/streaming.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// x' in an ordinary block is a number and exceeds the largest value by some ulp at most, too little to round up.
template <typename Format>
BNB_INLINE Ints encode(Ordinary, Floats unit) {
  return encode_in_range<Format>(unit);
}

// In a rare one it may be anything: the infinite elements of an infinite block become the largest value.
template <typename Format>
BNB_INLINE Ints encode(Rare block, Floats unit) {
  const Floats largest = splat(Format::max_finite());
  const Floats scaled = block.infinite ? mul(unit, largest) : unit;
  const Mask nan = is_nan(scaled);
  const Floats magnitude = min(select(nan, splat(0.0f), abs(scaled)), largest);
  return select_int(nan, splat_int(Format::kNanCode), encode_in_range<Format>(copy_sign(magnitude, scaled)));
}

template <typename Format, typename Tag, typename Normalise>
BNB_INLINE void encode_block(const Normalise &normalise, const char *p, int64_t count, int64_t ahead, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const auto codes = [&](int64_t i) { return encode<Format>(normalise, normalise(load<Tag>(p + i * kSize))); };
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    prefetch(p + i * kSize + ahead, 4 * kLanes * kSize);
    store_bytes(out + i, pack_uint8(codes(i), codes(i + kLanes), codes(i + 2 * kLanes), codes(i + 3 * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) store_uint8(out + i, codes(i));
  if (i == count) return;
  store_uint8_some(out + i, encode<Format>(normalise, normalise(load_some<Tag>(p + i * kSize, count - i))), count - i);
}

template <typename Format, typename Tag>
BNB_NOINLINE void encode_rare(float scale, const char *p, int64_t count, char *out) {
  encode_block<Format, Tag>(make_rare(scale), p, count, 0, out);
}

template <typename Format, typename Tag>
void quantize(const QuantizeFp8Args &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const auto produce = [&](int64_t start, int64_t stop, char *where) {
    const char *p = static_cast<const char *>(args.a) + start * kSize;
    const int64_t ahead = bytes_ahead<Tag>(stop, args.n);
    for (BlockParts part(start, stop, args.blocksize); part.more(); part.next()) {
      const float scale = bnb::load<float>(args.scale, part.block), reciprocal = 1.0f / scale;
      if (is_ordinary(reciprocal)) {
        encode_block<Format, Tag>(Ordinary{splat(reciprocal)}, p, part.count(), ahead, where);
      } else {
        encode_rare<Format, Tag>(scale, p, part.count(), where);
      }
      p += part.count() * kSize;
      where += part.count();
    }
  };
  write_output(args.out, args.n, begin, end, produce);
}

template <typename Format, typename Tag>
void dequantize(const DequantizeFp8Args &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const uint8_t *p = args.a + first_byte / kSize;
    const int64_t ahead = bytes_ahead<1>(last_byte / kSize, args.n);
    for (BlockParts part(first_byte / kSize, last_byte / kSize, args.blocksize); part.more(); part.next()) {
      const Floats scale = splat(bnb::load<float>(args.scale, part.block));
      const auto value = [&](Shorts codes) { return mul(decode(Format{}, codes), scale); };
      const auto full = [&](int64_t i) { store<Tag>(where + i * kSize, value(load_int8_shorts(p + i))); };
      const auto some = [&](int64_t i, int64_t left) {
        store_some<Tag>(where + i * kSize, value(load_int8_shorts_some(p + i, left)), left);
      };
      for_vectors<1>(p + ahead, part.count(), full, some);
      p += part.count();
      where += part.count() * kSize;
    }
  };
  write_output(args.out, args.n * kSize, begin * kSize, end * kSize, produce);
}

}  // namespace

void quantize_fp8(const QuantizeFp8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    if (args.quant_type == BNB_FP8_E4M3FN) return quantize<E4M3FN, decltype(tag)>(args, begin, end);
    quantize<E5M2, decltype(tag)>(args, begin, end);
  });
}

void dequantize_fp8(const DequantizeFp8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    if (args.quant_type == BNB_FP8_E4M3FN) return dequantize<E4M3FN, decltype(tag)>(args, begin, end);
    dequantize<E5M2, decltype(tag)>(args, begin, end);
  });
}

}  // namespace bnb::cpu::BNB_ISA
