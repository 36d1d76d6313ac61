// SPDX-License-Identifier: MIT
// Samples of ternary weights.
#include "draw.h"
#include "formats/ternary.h"

namespace conformance {
namespace {

using namespace bnb::formats::ternary;

bool is_tq(const Draw &draw) { return draw.sample.scalars.kind != BNB_TERNARY; }

// Of TQ types, rows and the blocks of scales are whole blocks of codes.
Draw draw_ternary(Random &random, const char *function, int64_t limit) {
  Draw draw(random, function, limit, 1);
  draw.kinds(BNB_TERNARY, BNB_TQ2_0);
  if (is_tq(draw)) {
    draw.n = draw.n / 64 * kBlock;
    draw.sample.scalars.blocksize = draw.blocksize = kBlock * random.between(1, 5);
    draw.blocks = ceil_div(draw.n, draw.blocksize);
  }
  return draw;
}

int64_t code_bytes(const Draw &draw) {
  if (!is_tq(draw)) return ceil_div(draw.n, TwoBits::kCodes);
  return draw.n / kBlock * (draw.sample.scalars.kind == BNB_TQ1_0 ? int64_t(TQ1::kBytes) : int64_t(TQ2::kBytes));
}

template <bnb_ternary_scale kRule>
bnb_status quantize(DLTensor *const *t, const Scalars &s) {
  return cquantize_ternary(t[0], bnb_quant_type(s.kind), kRule, s.blocksize, t[1], t[2], nullptr);
}

}  // namespace

Sample sample_quantize_ternary(Random &random, int64_t limit) {
  Draw draw = draw_ternary(random, "cquantize_ternary", limit);
  draw.input("A", draw.dtype, {draw.n}, draw.floats(draw.dtype, draw.n));
  draw.output("out", kU8, {code_bytes(draw)});
  draw.output("scale of ternary", kF32, {draw.blocks});
  draw.sample.call = random.one_in(2) ? quantize<BNB_ABSMEAN> : quantize<BNB_ABSMAX>;
  return draw.sample;
}

Sample sample_dequantize_ternary(Random &random, int64_t limit) {
  Draw draw = draw_ternary(random, "cdequantize_ternary", limit);
  draw.sample.uses.blocksize = 0;  // TQ types do not look at it
  draw.input("A", kU8, {code_bytes(draw)}, random_bytes(code_bytes(draw), random));
  draw.output("out", draw.dtype, {draw.n}, Nan::kAny);
  if (is_tq(draw)) {
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cdequantize_ternary(t[0], nullptr, bnb_quant_type(s.kind), s.blocksize, t[1], nullptr);
    };
  } else {
    draw.input("scale of ternary", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
    draw.sample.call = [](DLTensor *const *t, const Scalars &s) {
      return cdequantize_ternary(t[0], t[2], bnb_quant_type(s.kind), s.blocksize, t[1], nullptr);
    };
  }
  return draw.sample;
}

}  // namespace conformance
