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

// The sizes of a product.
struct Product {
  int64_t m, n, k;
};

// The samples begin with B and the bias, and end with the scale: TQ types have none, as their blocks carry it.
Draw draw_product(Random &random, const char *function, Product *p) {
  Draw draw(random, function, 10, 0);
  draw.kinds(BNB_TERNARY, BNB_TQ2_0);
  draw.sample.uses.strided_rows = true;
  draw.sample.uses.exact = false;
  draw.sample.uses.free_sizes = true;  // without rows in B, A may have any number of columns
  *p = {random.below(20), random.below(40), is_tq(draw) ? kBlock * random.below(3) : random.below(200)};
  draw.n = p->n * p->k;
  const int64_t columns = p->k > 0 && random.one_in(2) ? p->k : draw.n + 1;
  draw.sample.scalars.blocksize = draw.blocksize = p->k > 0 && p->k % 4 == 0 && random.one_in(2) ? p->k / 4 : columns;
  draw.blocks = ceil_div(draw.n, draw.blocksize);
  const DLDataType bias = draw.any_float();
  draw.input("B", kU8, {code_bytes(draw)}, random_bytes(code_bytes(draw), random));
  draw.input("bias", bias, {p->n}, draw.floats(bias, p->n));
  return draw;
}

template <bool kScale>
bnb_status gemm(DLTensor *const *t, const Scalars &s) {
  const DLTensor *scale = kScale ? t[5] : nullptr;
  return cgemm_ternary(t[2], t[0], t[3], scale, bnb_quant_type(s.kind), s.blocksize, t[1], t[4], nullptr);
}

template <bool kScale, int32_t kPerTensor>
bnb_status linear(DLTensor *const *t, const Scalars &s) {
  const DLTensor *scale = kScale ? t[4] : nullptr;
  return clinear_ternary(t[2], t[0], scale, bnb_quant_type(s.kind), s.blocksize, kPerTensor, t[1], t[3], nullptr);
}

}  // namespace

Sample sample_gemm_ternary(Random &random, int64_t) {
  Product p;
  Draw draw = draw_product(random, "cgemm_ternary", &p);
  const int64_t stats = random.one_in(3) ? 1 : p.m;
  draw.input("A", kI8, {p.m, p.k}, random_bytes(p.m * p.k, random));
  draw.input("row_stats", kF32, {stats}, draw.scale_bytes(stats));
  draw.output("out", draw.dtype, {p.m, p.n}, Nan::kAny);
  if (!is_tq(draw)) draw.input("scale of ternary", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
  draw.sample.call = is_tq(draw) ? gemm<false> : gemm<true>;
  return draw.sample;
}

Sample sample_linear_ternary(Random &random, int64_t) {
  Product p;
  Draw draw = draw_product(random, "clinear_ternary", &p);
  draw.input("A", draw.dtype, {p.m, p.k}, draw.floats(draw.dtype, p.m * p.k));
  draw.output("out", draw.dtype, {p.m, p.n}, Nan::kAny);
  if (!is_tq(draw)) draw.input("scale of ternary", kF32, {draw.blocks}, draw.scale_bytes(draw.blocks));
  const bool whole = random.one_in(2);
  draw.sample.call = is_tq(draw) ? (whole ? linear<false, 1> : linear<false, 0>) : (whole ? linear<true, 1> : linear<true, 0>);
  return draw.sample;
}

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
