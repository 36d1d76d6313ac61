// SPDX-License-Identifier: MIT
// What only bitsandbytes' names reach: nearest codes, statistics and sparse quantization of LLM.int8(), quantiles, gradient norms,
// histograms, filling. They take bare pointers, which the library asks where they live.
#include <bnb/bitsandbytes.h>

#include <limits>

#include "codes.h"
#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

template <typename T>
T *pointer(const DLTensor *tensor) {
  return reinterpret_cast<T *>(static_cast<char *>(tensor->data) + tensor->byte_offset);
}

int int_of(int64_t value) { return static_cast<int>(value); }

constexpr int64_t kSizes[] = {0, 1, 3, 4, 255, 1023, 1025, 4099, 65536, 70001};

void nearest_cases(Suite &suite) {
  for (Code code : kAllCodes) {
    for (Fill fill : {Fill::kUniform, Fill::kTies, Fill::kSpecials, Fill::kBits}) {
      suite.check(std::string("tools/quantize/") + name_of(code) + "/" + name_of(fill), [=](Random &random) {
        const std::vector<float> values = values_of(code, random);
        const int64_t n = 3001;
        Call call;
        const int map = call.input("code", kF32, {256}, bytes_of(values));
        const int A = call.input("A", kF32, {n}, filled(fill, kF32, n, 100, thresholds_of(values), random));
        const int out = call.output("out", kU8, {n});
        call.invoke = [=](DLTensor *const *t) {
          return cquantize(pointer<float>(t[map]), pointer<float>(t[A]), pointer<uint8_t>(t[out]), int_of(n));
        };
        return call;
      });
    }
  }
}

struct Shape {
  int64_t rows, cols;
  int64_t n() const { return rows * cols; }
};

std::string name(const char *op, Shape shape, float threshold, Fill fill) {
  return std::string("tools/") + op + "/" + std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + "/threshold" +
         std::to_string(threshold) + "/" + name_of(fill);
}

Call stats(Shape shape, float threshold, Fill fill, bool of_columns, Random &random) {
  Call call;
  const int A = call.input("A", kF16, {shape.rows, shape.cols}, filled(fill, kF16, shape.n(), 50, {}, random));
  const int row_stats = call.output("row_stats", kF32, {shape.rows});
  const int col_stats = call.output("col_stats", kF32, {of_columns ? shape.cols : 0});
  const int counts = call.output("nnz_count_row", kI32, {of_columns ? shape.rows + 1 : 0});
  call.invoke = [=](DLTensor *const *t) {
    const int rows = int_of(shape.rows), cols = int_of(shape.cols);
    if (!of_columns) {
      return cget_row_stats(pointer<bnb_fp16>(t[A]), pointer<float>(t[row_stats]), threshold, rows, cols, nullptr);
    }
    return cget_col_row_stats(pointer<bnb_fp16>(t[A]), pointer<float>(t[row_stats]), pointer<float>(t[col_stats]),
                              pointer<int>(t[counts]), threshold, rows, cols);
  };
  return call;
}

// Statistics of any kind, which need not be those of A.
Call quantize_sparse(Shape shape, float threshold, Fill fill, Random &random) {
  const Bytes content = filled(fill, kF16, shape.n(), 50, {}, random);
  std::vector<int32_t> starts = {0};
  for (int64_t row = 0; row < shape.rows; ++row) {
    int32_t outliers = 0;
    for (int64_t i = row * shape.cols; i < (row + 1) * shape.cols; ++i) {
      outliers += threshold > 0.0f && std::fabs(value_of(kF16, content.data() + i * 2)) >= threshold;
    }
    starts.push_back(starts.back() + outliers);
  }
  Call call;
  const int A = call.input("A", kF16, {shape.rows, shape.cols}, content);
  const int row_stats = call.input("row_stats", kF32, {shape.rows}, bytes_of(scales(shape.rows, random)));
  const int col_stats = call.input("col_stats", kF32, {shape.cols}, bytes_of(scales(shape.cols, random)));
  const int offsets = call.input("nnz_row_ptr", kI32, {shape.rows + 1}, bytes_of(starts));
  const int out_row = call.output("out_row", kI8, {shape.rows, shape.cols});
  const int out_col = call.output("out_col", kI8, {shape.rows, shape.cols});
  const int64_t nnz = starts.back();
  const int rowidx = call.output("rowidx", kI32, {nnz}), colidx = call.output("colidx", kI32, {nnz});
  const int val = call.output("val", kF16, {nnz});
  call.invoke = [=](DLTensor *const *t) {
    return cdouble_rowcol_quant(pointer<bnb_fp16>(t[A]), pointer<float>(t[row_stats]), pointer<float>(t[col_stats]),
                                pointer<int8_t>(t[out_col]), pointer<int8_t>(t[out_row]), pointer<int>(t[rowidx]),
                                pointer<int>(t[colidx]), pointer<bnb_fp16>(t[val]), pointer<int>(t[offsets]), threshold,
                                int_of(shape.rows), int_of(shape.cols));
  };
  return call;
}

void int8_cases(Suite &suite) {
  const auto check = [&](Shape shape, float threshold, Fill fill) {
    suite.check(name("row_stats", shape, threshold, fill),
                [=](Random &random) { return stats(shape, threshold, fill, false, random); });
    suite.check(name("col_row_stats", shape, threshold, fill),
                [=](Random &random) { return stats(shape, threshold, fill, true, random); });
    suite.check(name("double_rowcol_quant", shape, threshold, fill),
                [=](Random &random) { return quantize_sparse(shape, threshold, fill, random); });
  };
  for (Shape shape : {Shape{1, 1}, Shape{7, 15}, Shape{3, 64}, Shape{40, 257}, Shape{300, 33}, Shape{2, 9001}}) {
    if (suite.quick() && shape.n() > 10000) continue;
    for (float threshold : {0.0f, 2.5f}) check(shape, threshold, Fill::kNormal);
  }
  for (Fill fill : kAllFills) {
    for (float threshold : {0.0f, 1.0f, std::numeric_limits<float>::infinity()}) check({11, 101}, threshold, fill);
  }
}

template <typename T>
Call quantiles(DLDataType dtype, bnb_status (*function)(const T *, float *, float, int), int64_t n, float offset, Fill fill,
               Random &random) {
  Call call;
  const int A = call.input("A", dtype, {n}, filled(fill, dtype, n, 128, {}, random));
  const int code = call.output("code", kF32, {256}, Nan::kAny);
  call.invoke = [=](DLTensor *const *t) { return function(pointer<T>(t[A]), pointer<float>(t[code]), offset, int_of(n)); };
  return call;
}

void quantile_cases(Suite &suite) {
  const auto check = [&](int64_t n, float offset, Fill fill) {
    const std::string rest = "/n" + std::to_string(n) + "/offset" + std::to_string(offset) + "/" + name_of(fill);
    suite.check("tools/quantiles/fp32" + rest,
                [=](Random &random) { return quantiles(kF32, cestimate_quantiles_fp32, n, offset, fill, random); });
    suite.check("tools/quantiles/fp16" + rest,
                [=](Random &random) { return quantiles(kF16, cestimate_quantiles_fp16, n, offset, fill, random); });
  };
  for (int64_t n : kSizes) {
    if (n > 0 && (n == 1 || n == 4 || n == 4099 || !suite.quick())) check(n, 1.0f / 512.0f, Fill::kNormal);
  }
  float offset = 0.0f;
  for (Fill fill : kAllFills) {
    check(2000, offset, fill);
    offset = 0.5f - offset;
    if (!suite.quick()) check(2000, offset, fill);
  }
}

template <typename T>
Call clipping(DLDataType dtype, bnb_status (*function)(const T *, float *, int, int), int64_t n, int step, Fill fill, Random &random) {
  Call call;
  const int g = call.input("g", dtype, {n}, filled(fill, dtype, n, 128, {}, random));
  const int history = call.updated("gnorm_vec", kF32, {100}, filled(Fill::kNormal, kF32, 100, 100, {}, random), Nan::kAny);
  call.invoke = [=](DLTensor *const *t) { return function(pointer<T>(t[g]), pointer<float>(t[history]), step, int_of(n)); };
  return call;
}

void clipping_cases(Suite &suite) {
  const auto check = [&](int64_t n, int step, Fill fill) {
    const std::string rest = "/n" + std::to_string(n) + "/step" + std::to_string(step) + "/" + name_of(fill);
    suite.check("tools/percentile_clipping/fp32" + rest,
                [=](Random &random) { return clipping(kF32, cpercentile_clipping_g32, n, step, fill, random); });
    suite.check("tools/percentile_clipping/fp16" + rest,
                [=](Random &random) { return clipping(kF16, cpercentile_clipping_g16, n, step, fill, random); });
  };
  for (int64_t n : kSizes) check(n, n % 2 ? 1 : 205, Fill::kNormal);
  for (Fill fill : kAllFills) check(3000, 0, fill);
  if (!suite.quick()) check(300007, 99, Fill::kWide);
}

// spread: into how many cells of a row the elements go; few of them have long sums, in an order that matters.
Call histogram(int64_t rows, int64_t cols, int64_t spread, int64_t n, Random &random) {
  std::vector<int32_t> index1, index2;
  for (int64_t i = 0; i < n; ++i) {
    index1.push_back(int32_t(random.below(rows)));
    index2.push_back(int32_t(random.below(spread)));
  }
  Call call;
  const int first = call.input("index1", kI32, {n}, bytes_of(index1));
  const int second = call.input("index2", kI32, {n}, bytes_of(index2));
  const int source = call.input("source", kF32, {n}, filled(Fill::kWide, kF32, n, 64, {}, random));
  const int sums = call.updated("histogram", kF32, {rows, cols}, filled(Fill::kNormal, kF32, rows * cols, 64, {}, random), Nan::kAny);
  call.invoke = [=](DLTensor *const *t) {
    return chistogram_scatter_add_2d(pointer<float>(t[sums]), pointer<int>(t[first]), pointer<int>(t[second]),
                                     pointer<float>(t[source]), int_of(cols), int_of(n));
  };
  return call;
}

void histogram_cases(Suite &suite) {
  for (int64_t n : {0, 1, 255, 2047, 2049, 9001}) {
    if (suite.quick() && n > 3000) continue;
    for (int64_t spread : {1, 7, 300}) {
      suite.check("tools/histogram/n" + std::to_string(n) + "/spread" + std::to_string(spread),
                  [=](Random &random) { return histogram(5, 300, spread, n, random); });
    }
  }
}

Call filling(const char *output, DLDataType dtype, int64_t n, const std::function<bnb_status(DLTensor *)> &fill) {
  Call call;
  const int A = call.output(output, dtype, {n});
  call.invoke = [=](DLTensor *const *t) { return fill(t[A]); };
  return call;
}

Call multiplication(int64_t n, bool by_itself, Random &random) {
  Call call;
  const int A = call.updated("A", kF32, {n}, filled(Fill::kMixed, kF32, n, 64, {}, random), Nan::kAny);
  const int B = call.input("B", kF32, {n}, filled(Fill::kMixed, kF32, n, 50, {}, random));
  call.invoke = [=](DLTensor *const *t) {
    return c_mul_fp32(pointer<float>(t[A]), pointer<float>(t[by_itself ? A : B]), 0.0f, long(n));
  };
  return call;
}

void filling_cases(Suite &suite) {
  for (int64_t n : kSizes) {
    const std::string rest = "/n" + std::to_string(n);
    suite.check("tools/fill/fp32" + rest, [=](Random &) {
      return filling("A", kF32, n, [=](DLTensor *a) { return cfill_fp32(pointer<float>(a), nullptr, -1.25f, long(n)); });
    });
    suite.check("tools/fill/uint8" + rest, [=](Random &) {
      return filling("A", kU8, n, [=](DLTensor *a) { return cfill_uint8(pointer<uint8_t>(a), nullptr, 77, long(n)); });
    });
    suite.check("tools/arange" + rest, [=](Random &) {
      return filling("A", kF32, n, [=](DLTensor *a) { return carange_fp32(pointer<float>(a), nullptr, 0.0f, long(n)); });
    });
    for (bool by_itself : {false, true}) {
      suite.check("tools/mul" + rest + (by_itself ? "/by_itself" : ""),
                  [=](Random &random) { return multiplication(n, by_itself, random); });
    }
  }
}

}  // namespace

CONFORMANCE(tools) {
  suite.take_addresses();
  nearest_cases(suite);
  int8_cases(suite);
  quantile_cases(suite);
  clipping_cases(suite);
  histogram_cases(suite);
  filling_cases(suite);
}
