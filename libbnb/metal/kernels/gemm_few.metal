// SPDX-License-Identifier: MIT
// Products of quantized weights with up to eight rows of activations. SUM, w_error 0. What limits it is the weights' way from memory: a
// code is read once, by a lane that loads 16 bytes of each of its rows; it takes a shift, a mask, a load from threadgroup memory and an fma
// for each row of activations. Sums of a block get its scale.
#include "metal/kernels/few_rows.h"
#include "metal/kernels/weights.h"

namespace bnb {
namespace kernels {

template <typename Codec, int kM, typename Tag>
struct FewProduct {
  enum : int { kRows = FewShape<kM>::kRows, kPiece = 128 / Codec::kBits };
  typedef float Sum;
  constant GemmArgs *args;
  device const uchar *a, *b;
  Scales scales;
  float common;
  threadgroup const float *values;
  GemmOutputs<Tag> outputs;

  inline void add(thread const long *rows, long piece, thread float *sums) const {
    const long k = piece * kPiece;
    uint words[kRows * 4];
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) load_words<4>(b, args->vectors_b != 0, (rows[r] * args->k + k) * Codec::kBits / 8, words + 4 * r);
    const bool one_block = args->blocksize.value % kPiece == 0;
    BlockScale scale[kRows];
    BNB_UNROLL
    for (int unit = 0; unit < kPiece; unit += kUnit) {
      BNB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (unit > 0 && one_block) continue;
        scale[r] = block_scale(scale_at(args->scales, scales, common, quotient(rows[r] * args->k + k + unit, args->blocksize)));
      }
      float parts[kRows * kM];
      BNB_UNROLL
      for (int i = 0; i < kRows * kM; ++i) parts[i] = 0.0f;
      BNB_UNROLL
      for (int at = unit; at < unit + kUnit; at += 8) add_eight(k, at, words, parts);
      BNB_UNROLL
      for (int i = 0; i < kRows * kM; ++i) sums[i] = fma(parts[i] * scale[i / kM].factor, scale[i / kM].power, sums[i]);
    }
  }

  inline void add_eight(long k, int at, thread const uint *words, thread float *parts) const {
    float w[kRows * 8];
    BNB_UNROLL
    for (int r = 0; r < kRows; ++r) Codec::decode_eight(values, args->low_first != 0, words + 4 * r, at, w + 8 * r);
    BNB_UNROLL
    for (int m = 0; m < kM; ++m) {
      if (m >= args->m) break;
      float x[8];
      load_eight<Tag>(a, args->vectors_a != 0, args->aligned_a != 0, m * args->a_stride + k + at, x);
      BNB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        BNB_UNROLL
        for (int j = 0; j < 8; ++j) parts[r * kM + m] = fma(x[j], w[8 * r + j], parts[r * kM + m]);
      }
    }
  }

  inline void store(long m, long n, float sum) const { outputs.store(m, n, sum); }
};

}  // namespace kernels
}  // namespace bnb

template <typename Codec, int kM, typename Tag>
kernel void multiply_few(constant GemmArgs &args [[buffer(0)]], device const uchar *a [[buffer(1)]], device const uchar *b [[buffer(2)]],
                         device const uchar *bias [[buffer(3)]], device uchar *out [[buffer(4)]],
                         device const uchar *scales [[buffer(5)]], device const uchar *nested_code [[buffer(6)]],
                         device const uchar *nested_absmax [[buffer(7)]], device const uchar *single [[buffer(8)]],
                         uint index [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                         uint groups [[threadgroups_per_grid]]) {
  enum : int { kSimdgroups = kFewThreads / kLanes };
  threadgroup float values[256];
  fill_values<Codec>(args, values, index, kFewThreads);
  const Scales from = {scales, nested_code, nested_absmax, single};
  const FewProduct<Codec, kM, Tag> product = {&args, a, b, from, common_scale(args.scales, from), values, {&args, bias, out, 1.0f}};
  multiply_few_rows<FewProduct<Codec, kM, Tag>, kM>(product, args.m, args.n, args.k / product.kPiece, lane,
                                                    long(group) * kSimdgroups + long(simdgroup), long(groups) * kSimdgroups);
}

BNB_FLOAT_KERNELS_WITH("few_nibbles_1", multiply_few, Nibbles, 1)
BNB_FLOAT_KERNELS_WITH("few_nibbles_2", multiply_few, Nibbles, 2)
BNB_FLOAT_KERNELS_WITH("few_nibbles_4", multiply_few, Nibbles, 4)
BNB_FLOAT_KERNELS_WITH("few_nibbles_8", multiply_few, Nibbles, 8)
BNB_FLOAT_KERNELS_WITH("few_bytes_1", multiply_few, Bytes, 1)
BNB_FLOAT_KERNELS_WITH("few_bytes_2", multiply_few, Bytes, 2)
BNB_FLOAT_KERNELS_WITH("few_bytes_4", multiply_few, Bytes, 4)
BNB_FLOAT_KERNELS_WITH("few_bytes_8", multiply_few, Bytes, 8)
