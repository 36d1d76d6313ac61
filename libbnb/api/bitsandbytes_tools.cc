// SPDX-License-Identifier: MIT
// bitsandbytes' names for statistics (quantiles, gradient norms, histograms) and for filling arrays.
#include "api/bitsandbytes_call.h"
#include "core/scratch.h"

using namespace bnb;
using namespace bnb::api;

namespace {

bnb_status estimate_quantiles(const char *function, DType dtype, const void *A, float *code, float offset, int n) {
  Check check(function);
  Pointers pointers(function, nullptr, {A, code});
  Bare a_tensor(pointers, dtype, A, n), code_tensor(pointers, DType::kF32, code, n > 0 ? 256 : 0);
  const View a = check.input("A", a_tensor.get(), kFloats);
  check.that(offset >= 0.0f && offset <= 0.5f, "offset is %g, must be 0 to 0.5", double(offset));
  const View c = check.output("code", code_tensor.get(), kFloats);
  if (check.ok() && n == 0) return BNB_OK;
  return pointers.finish(check.run(&Backend::estimate_quantiles, {a.dtype, a.data, a.n, offset, c.data}, nullptr));
}

bnb_status percentile_clipping(const char *function, DType dtype, const void *g, float *gnorm_vec, int step, int n) {
  Check check(function);
  Pointers pointers(function, nullptr, {g, gnorm_vec});
  Bare g_tensor(pointers, dtype, g, n), history_tensor(pointers, DType::kF32, gnorm_vec, kGnormHistory);
  const View gradient = check.input("g", g_tensor.get(), kFloats);
  const View history = check.output("gnorm_vec", history_tensor.get(), kFloats);
  check.that(step >= 0, "step is %d, must be 0 or above", step);
  return pointers.finish(
      check.run(&Backend::percentile_clipping, {gradient.dtype, gradient.data, gradient.n, step, history.data}, nullptr));
}

template <DType kDType, typename T>
bnb_status fill(const char *function, T *A, T value, int64_t n) {
  Check check(function);
  Pointers pointers(function, nullptr, {A});
  Bare a_tensor(pointers, kDType, A, n);
  const View a = check.output("A", a_tensor.get(), kAnyDType);
  FillArgs args{a.data, a.n, kDType, 0.0f, 0};
  if constexpr (kDType == DType::kF32) {
    args.value = value;
  } else {
    args.byte = value;
  }
  return pointers.finish(check.run(&Backend::fill, args, nullptr));
}

// Elements of the histogram that these indices reach, which is all that its length can be known by: rows as long as maxidx1 up to the
// last that is met. -1 if there is no memory to look at them.
int64_t reach_of(Pointers &pointers, const int *index1, int64_t maxidx1, int64_t n) {
  const Scratch<int32_t> rows(n);
  if (!rows.usable() || pointers.read(rows.data(), index1, n * int64_t(sizeof(int32_t))) != BNB_OK) return -1;
  int64_t last = -1;
  for (int64_t i = 0; i < n; ++i) last = rows[i] > last ? rows[i] : last;
  return (last + 1) * maxidx1;
}

}  // namespace

bnb_status cestimate_quantiles_fp32(BNB_ARGS_ESTIMATE_QUANTILES(bnb_fp32)) {
  return estimate_quantiles("cestimate_quantiles_fp32", DType::kF32, A, code, offset, n);
}
bnb_status cestimate_quantiles_fp16(BNB_ARGS_ESTIMATE_QUANTILES(bnb_fp16)) {
  return estimate_quantiles("cestimate_quantiles_fp16", DType::kF16, A, code, offset, n);
}

#define BNB_DEFINE(family, suffix, T)                                              \
  bnb_status family##suffix(BNB_ARGS_PERCENTILE_CLIPPING(T)) {                     \
    return percentile_clipping(#family #suffix, dtypes::T, g, gnorm_vec, step, n); \
  }
BNB_FLOATS_OLD(BNB_DEFINE, cpercentile_clipping_g)
#undef BNB_DEFINE

bnb_status chistogram_scatter_add_2d(float *histogram, const int *index1, const int *index2, const float *source,
                                     int maxidx1, int n) {
  Check check("chistogram_scatter_add_2d");
  Pointers pointers("chistogram_scatter_add_2d", nullptr, {histogram, index1, index2, source});
  // How many rows there are is the caller's knowledge alone: one counts, but for a copy on a device.
  int64_t elements = n > 0 && maxidx1 > 0 ? maxidx1 : 0;
  if (elements > 0 && index1 && pointers.backend() && pointers.is_host(histogram)) {
    elements = reach_of(pointers, index1, maxidx1, n);
    if (elements < 0) return fail(BNB_ERROR_OUT_OF_MEMORY, "chistogram_scatter_add_2d: no memory to look at index1");
  }
  Bare rows_tensor(pointers, DType::kI32, index1, n), cols_tensor(pointers, DType::kI32, index2, n),
      source_tensor(pointers, DType::kF32, source, n), histogram_tensor(pointers, DType::kF32, histogram, elements);
  const View rows = check.input("index1", rows_tensor.get(), bit(DType::kI32));
  const View cols = check.input("index2", cols_tensor.get(), bit(DType::kI32));
  const View added = check.input("source", source_tensor.get(), kFloats);
  check.that(maxidx1 >= 1, "maxidx1 is %d, must be at least 1", maxidx1);
  const View sums = check.output("histogram", histogram_tensor.get(), kFloats);
  return pointers.finish(check.run(
      &Backend::histogram_add, {"chistogram_scatter_add_2d", sums.data, rows.data, cols.data, added.data, maxidx1, rows.n}, nullptr));
}

bnb_status cfill_fp32(float *A, const float *, float value, long n) {
  return fill<DType::kF32>("cfill_fp32", A, value, n);
}

bnb_status cfill_uint8(uint8_t *A, const uint8_t *, uint8_t value, long n) {
  return fill<DType::kU8>("cfill_uint8", A, value, n);
}

bnb_status carange_fp32(float *A, const float *, float, long n) {
  Check check("carange_fp32");
  Pointers pointers("carange_fp32", nullptr, {A});
  Bare a_tensor(pointers, DType::kF32, A, n);
  const View a = check.output("A", a_tensor.get(), kFloats);
  return pointers.finish(check.run(&Backend::arange, {a.data, a.n}, nullptr));
}

bnb_status c_mul_fp32(float *A, const float *B, float, long n) {
  Check check("c_mul_fp32");
  Pointers pointers("c_mul_fp32", nullptr, {A, B});
  // A by itself is fine, an A that begins inside B is not: only the latter is compared.
  Bare a_tensor(pointers, DType::kF32, A, n), b_tensor(pointers, DType::kF32, B == A ? nullptr : B, n);
  const View a = check.output("A", a_tensor.get(), kFloats);
  const View b = B == A ? a : check.input("B", b_tensor.get(), kFloats);
  return pointers.finish(check.run(&Backend::multiply, {a.data, b.data, a.n}, nullptr));
}
