// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization: one code per byte. EXACT.
//
// Quantize: the nearest of 256 values by one table look-up and one comparison (cpu/code_search.h), or for codes too dense for
// that table by a search among the midpoints in eight steps. Dequantize: out = code[a] * absmax.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streaming.h"
#include "cpu/simd/codes.h"

namespace bnb::cpu::BNB_ISA {
namespace {

template <typename Tag, typename Nearest, typename Normalise>
BNB_INLINE void encode(const Nearest &nearest, const Normalise &normalise, float subtract, const char *p, int64_t count,
                       int64_t ahead, char *out) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const Floats offset = splat(subtract);
  const auto code = [&](Floats x) { return nearest(normalise(sub(x, offset))); };
  const auto code_at = [&](int64_t i) { return code(load<Tag>(p + i * kSize)); };
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    prefetch(p + i * kSize + ahead, 4 * kLanes * kSize);
    store_bytes(out + i, pack_uint8(code_at(i), code_at(i + kLanes), code_at(i + 2 * kLanes), code_at(i + 3 * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) store_uint8(out + i, code_at(i));
  if (i < count) store_uint8_some(out + i, code(load_some<Tag>(p + i * kSize, count - i)), count - i);
}

template <typename Tag, typename Nearest>
BNB_NOINLINE void encode_rare(const Nearest &nearest, float absmax, float subtract, const char *p, int64_t count, char *out) {
  if (absmax == absmax) return encode<Tag>(nearest, make_rare(absmax), subtract, p, count, 0, out);
  std::memset(out, 0, size_t(count));  // NaN is above no midpoint
}

template <typename Tag, typename Nearest>
void quantize(const QuantizeBlockwiseKernelArgs &args, const Nearest &nearest, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const int64_t ahead = bytes_ahead<Tag>(end, args.n);
  const char *p = static_cast<const char *>(args.a) + begin * kSize;
  char *out = reinterpret_cast<char *>(args.out) + begin;
  for (BlockParts part(begin, end, args.blocksize); part.more(); part.next()) {
    const float absmax = bnb::load<float>(args.absmax, part.block), reciprocal = 1.0f / absmax;
    if (is_ordinary(reciprocal)) {
      encode<Tag>(nearest, Ordinary{splat(reciprocal)}, args.subtract, p, part.count(), ahead, out);
    } else {
      encode_rare<Tag>(nearest, absmax, args.subtract, p, part.count(), out);
    }
    p += part.count() * kSize;
    out += part.count();
  }
}

template <typename Tag>
void dequantize(const DequantizeBlockwiseArgs &args, int64_t begin, int64_t end) {
  constexpr int64_t kSize = sizeof(typename Tag::Storage);
  const CodeTable table = make_code_table(args.code);
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *where) {
    const uint8_t *p = args.a + first_byte / kSize;
    prefetch(p + bytes_ahead<1>(last_byte / kSize, args.n), (last_byte - first_byte) / kSize);
    for (BlockParts part(first_byte / kSize, last_byte / kSize, args.blocksize); part.more(); part.next()) {
      decode_codes<Tag>(table, p, part.count(), splat(args.absmax.at(part.block)), where);
      p += part.count();
      where += part.count() * kSize;
    }
  };
  write_output(args.out, args.n * kSize, begin * kSize, end * kSize, produce);
}

}  // namespace

void quantize_blockwise(const QuantizeBlockwiseKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    with_nearest(*args.search, [&](const auto &nearest) { quantize<decltype(tag)>(args, nearest, begin, end); });
  });
}

void dequantize_blockwise(const DequantizeBlockwiseArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) { dequantize<decltype(tag)>(args, begin, end); });
}

}  // namespace bnb::cpu::BNB_ISA
