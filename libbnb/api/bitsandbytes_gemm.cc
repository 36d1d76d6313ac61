// SPDX-License-Identifier: MIT
// bitsandbytes' names for int8 products, which speak column-major as BLAS does: what is a column there is a row here.
#include "api/bitsandbytes_call.h"
#include "api/gemm_int8.h"

using namespace bnb;
using namespace bnb::api;

namespace {

// One side of a product: `outer` vectors of `inner` elements, one behind the other every `ld` elements, or (across) the other way
// round: `inner` vectors of `outer` elements.
struct Side {
  const char *name;
  const int8_t *data;
  int64_t outer, inner, ld;
  bool across;
  int64_t stride;  // from one product of a batch to the next

  int64_t vectors() const { return across ? inner : outer; }
  int64_t length() const { return across ? outer : inner; }
};

// A batch of C = op(A) op(B), column-major: C[i + j * ldc] is the product of vector i of A and vector j of B.
struct Batch {
  Side a, b;
  int32_t *c;
  int64_t ldc, c_stride, count;
};

// Elements from the first to the last of a batch of matrices; -1 if 64 bits cannot count them.
int64_t span_of(int64_t vectors, int64_t length, int64_t ld, int64_t stride, int64_t count) {
  if (vectors == 0 || length == 0 || count == 0) return 0;
  int64_t last = 0, span = (vectors - 1) * ld + length;
  const bool fits = !__builtin_mul_overflow(count - 1, stride, &last) && !__builtin_add_overflow(last, span, &span);
  return fits ? span : -1;
}

void check_matrix(Check &check, const char *name, int64_t vectors, int64_t length, int64_t ld, int64_t stride, int64_t count) {
  check.that(ld >= length || vectors <= 1, "the leading dimension of %s is %lld, must be at least %lld", name, (long long)ld,
             (long long)length);
  check.that(stride >= 0 || count <= 1, "the stride of %s is %lld, must not be negative", name, (long long)stride);
  if (check.ok()) check.that(span_of(vectors, length, ld, stride, count) >= 0, "%s is larger than 64 bits can count", name);
}

const int8_t *check_side(Check &check, Pointers &pointers, const Side &side, int64_t count) {
  check_matrix(check, side.name, side.vectors(), side.length(), side.ld, side.stride, count);
  if (!check.ok()) return nullptr;
  Bare bytes(pointers, DType::kI8, side.data, span_of(side.vectors(), side.length(), side.ld, side.stride, count));
  return static_cast<const int8_t *>(check.input(side.name, bytes.get(), bit(DType::kI8)).data);
}

// The n elements of a temporary, as operations of this check get pointers; NULL if it has none.
template <typename T>
T *placed(Check &check, Pointers &pointers, DType dtype, const Temporary &memory, int64_t n) {
  if (!memory.data()) return nullptr;
  Bare tensor(pointers, dtype, memory.data<const void>(), n);
  return static_cast<T *>(check.input("temporary memory", tensor.get(), bit(dtype)).data);
}

// A side of one product as the operation wants it: vectors that lie across become compact ones at `out`.
const int8_t *turn(Check &check, const Side &side, const int8_t *data, int8_t *out, const Queue &queue, bnb_status *status) {
  if (!side.across) return data;
  if (*status == BNB_OK) {
    *status = check.run(&Backend::transpose_int8, {data, side.inner, side.outer, side.ld, out}, queue.stream);
  }
  return out;
}

bnb_status multiply(Pointers &pointers, const char *function, const Batch &batch) {
  const int64_t m = batch.a.outer, n = batch.b.outer, k = batch.a.inner;
  Check check(function);
  check.that(m >= 0 && n >= 0 && k >= 0 && batch.count >= 0, "sizes are %lld, %lld, %lld (%lld times), must not be negative",
             (long long)m, (long long)n, (long long)k, (long long)batch.count);
  if (!check.ok()) return check.finish();
  const int8_t *a = check_side(check, pointers, batch.a, batch.count), *b = check_side(check, pointers, batch.b, batch.count);
  check_matrix(check, "C", n, m, batch.ldc, batch.c_stride, batch.count);
  check_products(check, "A", k);
  if (!check.ok()) return pointers.finish(check.finish());
  const int64_t one = span_of(n, m, batch.ldc, 0, 1);
  check.that(batch.count <= 1 || one == 0 || batch.c_stride >= one, "the stride of C is %lld: its matrices of %lld elements overlap",
             (long long)batch.c_stride, (long long)one);
  Bare c_bytes(pointers, DType::kI32, batch.c, span_of(n, m, batch.ldc, batch.c_stride, batch.count));
  char *c = static_cast<char *>(check.output("C", c_bytes.get(), bit(DType::kI32)).data);
  if (check.finish() != BNB_OK || m == 0 || n == 0) return pointers.finish(check.finish());

  const Queue &queue = pointers.queue();
  const Temporary turned_a(pointers.backend(), queue, batch.a.across ? m * k : 0),
      turned_b(pointers.backend(), queue, batch.b.across ? n * k : 0);
  if (turned_a.status() != BNB_OK || turned_b.status() != BNB_OK) return pointers.finish(BNB_ERROR_OUT_OF_MEMORY);
  int8_t *const a_across = placed<int8_t>(check, pointers, DType::kI8, turned_a, m * k);
  int8_t *const b_across = placed<int8_t>(check, pointers, DType::kI8, turned_b, n * k);
  bnb_status status = check.finish();
  for (int64_t i = 0; i < batch.count && status == BNB_OK; ++i) {
    GemmInt8Args args{};
    args.a = turn(check, batch.b, b + i * batch.b.stride, b_across, queue, &status);
    args.b = turn(check, batch.a, a + i * batch.a.stride, a_across, queue, &status);
    args.m = n;
    args.n = m;
    args.k = k;
    args.a_stride = batch.b.across ? k : batch.b.ld;
    args.b_stride = batch.a.across ? k : batch.a.ld;
    args.dtype = DType::kI32;
    args.out = c + i * batch.c_stride * int64_t(sizeof(int32_t));
    args.out_stride = batch.ldc;
    if (status == BNB_OK) status = check.run(&Backend::gemm_int8, args, queue.stream);
  }
  return pointers.finish(status);
}

// bitsandbytes' own answers of cigemmlt_*. Its 100, "not implemented", never comes.
constexpr int kIgemmDone = 0, kIgemmFailed = 1;

// C [n, k] = B [n, m] times A [k, m], rows every ldc, ldb and lda elements.
bnb_status multiply_rows(Pointers &pointers, const char *function, int m, int n, int k, const int8_t *A, const int8_t *B, int32_t *C,
                         int lda, int ldb, int64_t ldc) {
  return multiply(pointers, function, {{"A", A, k, m, lda, false, 0}, {"B", B, n, m, ldb, false, 0}, C, ldc, 0, 1});
}

// The same with out in int8: each sum times the scale of its column of C [n, k], if there are scales.
bnb_status multiply_rows_to_int8(const char *function, int m, int n, int k, const int8_t *A, const int8_t *B, void *C, bool scaled,
                                 const float *scales, int lda, int ldb, int ldc, void *stream) {
  Pointers pointers(function, stream, {A, B, C, scaled ? scales : nullptr});
  Check check(function);
  check.that(n >= 0 && k >= 0, "sizes are %d and %d, must not be negative", n, k);
  check_matrix(check, "C", n, k, ldc, 0, 1);
  if (!check.ok()) return check.finish();
  Bare bytes(pointers, DType::kI8, C, span_of(n, k, ldc, 0, 1)), scale_tensor(pointers, DType::kF32, scaled ? scales : nullptr, k);
  const Side a{"A", A, k, m > 0 ? m : 0, lda, false, 0}, b{"B", B, n, m > 0 ? m : 0, ldb, false, 0};
  check_side(check, pointers, a, 1);
  check_side(check, pointers, b, 1);
  SaturateInt8Args args{};
  args.out = static_cast<int8_t *>(check.output("C", bytes.get(), bit(DType::kI8)).data);
  if (scaled) args.scales = check.input("row_scale", scale_tensor.get(), bit(DType::kF32)).data;
  if (check.finish() != BNB_OK) return pointers.finish(check.finish());
  const Temporary sums(pointers.backend(), pointers.queue(), int64_t(n) * k * int64_t(sizeof(int32_t)));
  if (sums.status() != BNB_OK) return pointers.finish(sums.status());
  bnb_status status = multiply_rows(pointers, function, m, n, k, A, B, sums.data<int32_t>(), lda, ldb, k);
  if (status != BNB_OK) return status;
  args.a = placed<const int32_t>(check, pointers, DType::kI32, sums, int64_t(n) * k);
  args.rows = n;
  args.cols = k;
  args.out_stride = ldc;
  return pointers.finish(check.run(&Backend::saturate_int8, args, stream));
}

int answer(bnb_status status) { return status == BNB_OK ? kIgemmDone : kIgemmFailed; }

}  // namespace

bnb_status cigemm(void *, bool transposeA, bool transposeB, int m, int n, int k, const void *A, const void *B, void *C, int lda,
                  int ldb, int ldc) {
  Pointers pointers("cigemm", nullptr, {A, B, C});
  return multiply(pointers, "cigemm",
                  {{"A", static_cast<const int8_t *>(A), m, k, lda, !transposeA, 0},
                   {"B", static_cast<const int8_t *>(B), n, k, ldb, transposeB, 0},
                   static_cast<int32_t *>(C), ldc, 0, 1});
}

bnb_status cbatched_igemm(void *, bool transposeA, bool transposeB, int m, int n, int k, const void *A, const void *B, void *C,
                          int lda, int ldb, int ldc, long strideA, long strideB, long strideC, int batchCount) {
  Pointers pointers("cbatched_igemm", nullptr, {A, B, C});
  return multiply(pointers, "cbatched_igemm",
                  {{"A", static_cast<const int8_t *>(A), m, k, lda, !transposeA, strideA},
                   {"B", static_cast<const int8_t *>(B), n, k, ldb, transposeB, strideB},
                   static_cast<int32_t *>(C), ldc, strideC, batchCount});
}

int cigemmlt_32(void *, int m, int n, int k, const int8_t *A, const int8_t *B, void *C, const float *, int lda, int ldb, int ldc,
                void *stream) {
  Pointers pointers("cigemmlt_32", stream, {A, B, C});
  return answer(multiply_rows(pointers, "cigemmlt_32", m, n, k, A, B, static_cast<int32_t *>(C), lda, ldb, ldc));
}

int cigemmlt_8(void *, int m, int n, int k, const int8_t *A, const int8_t *B, void *C, const float *, int lda, int ldb, int ldc,
               void *stream) {
  return answer(multiply_rows_to_int8("cigemmlt_8", m, n, k, A, B, C, false, nullptr, lda, ldb, ldc, stream));
}

int cigemmlt_8_rowscale(void *, int m, int n, int k, const int8_t *A, const int8_t *B, void *C, const float *row_scale, int lda,
                        int ldb, int ldc, void *stream) {
  return answer(multiply_rows_to_int8("cigemmlt_8_rowscale", m, n, k, A, B, C, true, row_scale, lda, ldb, ldc, stream));
}
