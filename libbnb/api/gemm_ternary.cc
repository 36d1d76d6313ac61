// SPDX-License-Identifier: MIT
// cgemm_ternary and clinear_ternary.
#include "api/ternary.h"
#include "formats/ternary.h"

using namespace bnb;
using namespace bnb::api;
using formats::ternary::kBlock;

namespace {

// How rows of k weights are cut into blocks of a size that fits them.
void check_blocks(Check &check, int64_t blocksize, int64_t weights, GemmTernaryArgs *args) {
  const int64_t k = args->k;
  check.blocksize("blocksize", blocksize);
  if (!check.ok()) return;
  const bool part = k % blocksize == 0, rows = k > 0 && blocksize % k == 0;
  check.that(part || rows || blocksize >= weights,
             "blocksize is %lld, must divide the %lld columns of A, or be a multiple of that or at least %lld, all weights",
             (long long)blocksize, (long long)k, (long long)weights);
  if (part && k > 0) {
    args->block = blocksize;
  } else if (rows) {
    args->rows_per_scale = blocksize / k;
  } else {
    args->rows_per_scale = args->n > 0 ? args->n : 1;
  }
}

View check_scale(Check &check, const DLTensor *scale, bnb_quant_type quant_type, int64_t blocksize, int64_t weights,
                 GemmTernaryArgs *args) {
  if (is_tq(quant_type)) {
    check.that(!scale, "scale is not NULL: the blocks of BNB_TQ1_0 and BNB_TQ2_0 carry their scales");
    args->block = kBlock;
    return {};
  }
  check_blocks(check, blocksize, weights, args);
  const View view = check.input("scale", scale, bit(DType::kF32));
  if (check.ok()) check.elements("scale", view, block_count(weights, blocksize), "one per block");
  return view;
}

// Everything but the activations, of which this is the shape, and what belongs to them.
GemmTernaryArgs check_product(Check &check, const View &a, const DLTensor *B, const DLTensor *scale, bnb_quant_type quant_type,
                              int64_t blocksize, const DLTensor *bias, DLTensor *out) {
  constexpr int64_t kMostColumns = INT32_MAX / (128 * 2);
  GemmTernaryArgs args{};
  const View o = check.output("out", out, kFloats, Layout::kStridedRows);
  check_quant_type_ternary(check, quant_type);
  check.rank("A", a, 2);
  check.rank("out", o, 2);
  if (!check.ok()) return args;
  check.that(a.rows() == o.rows(), "out has shape [%lld, %lld], must have %lld rows as A, [%lld, %lld], has", (long long)o.rows(),
             (long long)o.cols(), (long long)a.rows(), (long long)a.rows(), (long long)a.cols());
  check.that(a.cols() <= kMostColumns, "A has %lld columns, must have at most %lld: sums of more products need not fit in int32",
             (long long)a.cols(), (long long)kMostColumns);
  check_rows_ternary(check, "A", a, quant_type);
  int64_t weights = 0;
  check.that(!__builtin_mul_overflow(o.cols(), a.cols(), &weights), "weights of [%lld, %lld] are more than 64 bits can count",
             (long long)o.cols(), (long long)a.cols());
  const View codes = check.input("B", B, code_dtypes_ternary(quant_type));
  check_codes_ternary(check, "B", codes, quant_type, weights);
  if (!check.ok()) return args;
  args.m = a.rows();
  args.n = o.cols();
  args.k = a.cols();
  args.b = static_cast<const uint8_t *>(codes.data);
  args.quant_type = quant_type;
  args.block = args.k > 0 ? args.k : 1;
  args.rows_per_scale = 1;
  args.scale = check_scale(check, scale, quant_type, blocksize, weights, &args).data;
  const View b = bias ? check.input("bias", bias, kFloats) : View{};
  if (bias && check.ok()) check.elements("bias", b, args.n, "one per column of out");
  args.bias_dtype = b.dtype;
  args.bias = b.data;
  args.dtype = o.dtype;
  args.out = o.data;
  args.out_stride = o.row_stride;
  return args;
}

}  // namespace

bnb_status cgemm_ternary(const DLTensor *A, const DLTensor *B, const DLTensor *row_stats, const DLTensor *scale,
                         bnb_quant_type quant_type, int64_t blocksize, const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("cgemm_ternary");
  const View a = check.input("A", A, bit(DType::kI8), Layout::kStridedRows);
  const View stats = check.input("row_stats", row_stats, bit(DType::kF32));
  GemmTernaryArgs args = check_product(check, a, B, scale, quant_type, blocksize, bias, out);
  check.that(stats.n == args.m || stats.n == 1, "row_stats has %lld elements, must have %lld (one per row of A) or 1",
             (long long)stats.n, (long long)args.m);
  args.a = static_cast<const int8_t *>(a.data);
  args.a_stride = a.row_stride;
  args.row_stats = stats.data;
  args.same_row_stats = stats.n == 1;
  return check.run(&Backend::gemm_ternary, args, stream);
}

bnb_status clinear_ternary(const DLTensor *A, const DLTensor *B, const DLTensor *scale, bnb_quant_type quant_type, int64_t blocksize,
                           int32_t per_tensor, const DLTensor *bias, DLTensor *out, void *stream) {
  Check check("clinear_ternary");
  const View a = check.input("A", A, kFloats, Layout::kStridedRows);
  check.that(per_tensor == 0 || per_tensor == 1, "per_tensor is %d, must be 0 or 1", int(per_tensor));
  const GemmTernaryArgs product = check_product(check, a, B, scale, quant_type, blocksize, bias, out);
  check.that(a.dtype == product.dtype, "out is %s, must be %s as A is", out ? dtype_name(out->dtype) : "",
             dtype_name(a.dlpack_dtype));
  return check.run(&Backend::linear_ternary, {a.dtype, a.data, a.row_stride, per_tensor == 1, product}, stream);
}
