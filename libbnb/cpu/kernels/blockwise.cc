// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: one code per byte. EXACT.
//
// Quantize: the nearest of 256 values by one table look-up and one comparison (cpu/code_search.h), or for codes too dense for
// that table by a search among the midpoints in eight steps. Dequantize: out = code[a] * absmax.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streaming.h"

namespace bnb::cpu::BNB_ISA {
namespace {

// Codes of normalised values; |x| is at most a few ulp above 1.
struct ByTable {
  const CodeSearch &search;
  BNB_INLINE Ints operator()(Floats x) const {
    constexpr int32_t kOffset = 1 - CodeSearch::kLowestKey;
    constexpr uint32_t kLowest = uint32_t(CodeSearch::kLowestKey - 1) << 16;
    constexpr uint32_t kHighest = (uint32_t(CodeSearch::kTopBucket - kOffset) << 16) | 0xFFFFu;
    const Ints magnitude = and_int(bits(x), splat_bits(kMagnitudeBits));
    const Ints clamped = min_uint(max_uint(magnitude, splat_bits(kLowest)), splat_bits(kHighest));
    const Ints side = select_int(greater(x, splat(0.0f)), splat_int(kOffset + CodeSearch::kBucketsPerSign), splat_int(kOffset));
    const Ints entry = gather_bits(search.entries, add_int(shift_right<16>(clamped), side));
    const Ints lower = splat_bits(0xFFFFu);
    const Mask beyond = greater_int(and_int(clamped, lower), and_int(entry, lower));
    return select_int(beyond, shift_right<24>(entry), and_int(shift_right<16>(entry), splat_bits(0xFFu)));
  }
};

struct ByHalving {
  const CodeSearch &search;
  BNB_INLINE Ints operator()(Floats x) const {
    Ints code = splat_int(0);
    for (int32_t step = 128; step > 0; step /= 2) {
      const Ints next = add_int(code, splat_int(step));
      const Floats midpoint = gather(search.midpoints, sub_int(next, splat_int(1)));
      code = select_int(greater(x, midpoint), next, code);
    }
    return code;
  }
};

template <typename Tag, typename Search, typename Normalise>
BNB_INLINE void encode(const Search &search, const Normalise &normalise, float subtract, const char *p, int64_t count,
                       char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Floats offset = splat(subtract);
  const auto code = [&](Floats x) { return search(normalise(sub(x, offset))); };
  const auto code_at = [&](int64_t i) { return code(load<Tag>(p + i * kSize)); };
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    store_bytes(out + i, pack_uint8(code_at(i), code_at(i + kLanes), code_at(i + 2 * kLanes), code_at(i + 3 * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) store_uint8(out + i, code_at(i));
  if (i < count) store_uint8_some(out + i, code(load_some<Tag>(p + i * kSize, count - i)), count - i);
}

template <typename Tag, typename Search>
void quantize(const QuantizeBlockwiseKernelArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const char *a = static_cast<const char *>(args.a);
  const Search search{*args.search};
  const auto produce = [&](int64_t start, int64_t stop, char *where) {
    for_blocks(start, stop, args.blocksize, [&](int64_t block, int64_t first, int64_t last) {
      const float absmax = bnb::load<float>(args.absmax, block);
      char *out = where + (first - start);
      if (absmax != absmax) {  // NaN is above no midpoint
        std::memset(out, 0, size_t(last - first));
        return;
      }
      with_normaliser(absmax, [&](const auto &normalise) {
        encode<Tag>(search, normalise, args.subtract, a + first * kSize, last - first, out);
      });
    });
  };
  write_output(args.out, args.n, begin, end, produce);
}

template <typename Tag>
void dequantize(const DequantizeBlockwiseArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const float *code = static_cast<const float *>(args.code);
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const int64_t start = first_byte / kSize;
    for_blocks(start, last_byte / kSize, args.blocksize, [&](int64_t block, int64_t first, int64_t last) {
      const Floats absmax = splat(args.absmax.at(block));
      const uint8_t *p = args.a + first;
      char *out = where + (first - start) * kSize;
      int64_t count = last - first;
      for (; count >= kLanes; count -= kLanes, p += kLanes, out += kLanes * kSize) {
        store<Tag>(out, mul(gather(code, load_uint8(p)), absmax));
      }
      if (count) store_some<Tag>(out, mul(gather(code, load_uint8_some(p, count)), absmax), count);
    });
  };
  write_output(args.out, args.n * kSize, begin * kSize, end * kSize, produce);
}

}  // namespace

void quantize_blockwise(const QuantizeBlockwiseKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    if (args.search->dense) return quantize<decltype(tag), ByHalving>(args, begin, end);
    quantize<decltype(tag), ByTable>(args, begin, end);
  });
}

void dequantize_blockwise(const DequantizeBlockwiseArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) { dequantize<decltype(tag)>(args, begin, end); });
}

}  // namespace bnb::cpu::BNB_ISA
