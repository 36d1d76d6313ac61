// SPDX-License-Identifier: MIT
// cquantize_int8_vectorwise, cquantize_int8_double, cdequantize_int8_vectorwise and cdequantize_int8_mm.
#include <limits>

#include "sizes.h"
#include "suite.h"

using namespace conformance;

namespace {

struct Shape {
  int64_t rows, cols, gap;  // gap: elements between rows
  int64_t stride() const { return gap ? cols + gap : 0; }
  int64_t n() const { return rows * cols; }
};

std::vector<Shape> shapes(bool quick) {
  std::vector<Shape> list = {{0, 0, 0},    {0, 5, 0},    {5, 0, 0},   {1, 1, 0},   {1, 1, 3},   {1, 2, 0},
                             {2, 1, 0},    {3, 7, 1},    {4, 16, 0},  {2, 31, 2},  {5, 32, 0},  {3, 33, 13},
                             {7, 63, 0},   {5, 64, 64},  {4, 65, 0},  {9, 100, 5}, {2, 127, 0}, {3, 128, 1},
                             {2, 1027, 0}, {1000, 3, 0}, {33, 257, 7}};
  if (!quick) {
    for (Shape large : {Shape{700, 1001, 0}, Shape{90001, 5, 3}, Shape{3, 200003, 1}, Shape{1, 700001, 0}})
      list.push_back(large);
  }
  return list;
}

std::string text_of(Shape shape) {
  std::string text = std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
  return shape.gap ? text + "+" + std::to_string(shape.gap) : text;
}

std::string name(const char *op, DLDataType dtype, const std::string &rest) {
  return std::string("int8/") + op + "/" + name_of(dtype) + "/" + rest;
}

enum class Outliers { kNoColumns, kColumns };

Call quantize(DLDataType dtype, Shape shape, float threshold, Outliers outliers, Bytes content) {
  Call call;
  const int A = call.input("A", dtype, {shape.rows, shape.cols}, std::move(content), shape.stride());
  const int out = call.output("out", kI8, {shape.rows, shape.cols});
  const int row_stats = call.output("row_stats", kF32, {shape.rows});
  const bool columns = outliers == Outliers::kColumns;
  const int outlier_cols = columns ? call.output("outlier_cols", kU8, {shape.cols}) : 0;
  call.invoke = [=](DLTensor *const *t) {
    return cquantize_int8_vectorwise(t[A], threshold, t[out], t[row_stats], columns ? t[outlier_cols] : nullptr,
                                     nullptr);
  };
  return call;
}

Call quantize_double(DLDataType dtype, Shape shape, float threshold, Outliers outliers, Bytes content) {
  Call call;
  const int A = call.input("A", dtype, {shape.rows, shape.cols}, std::move(content), shape.stride());
  const int out_row = call.output("out_row", kI8, {shape.rows, shape.cols});
  const int out_col = call.output("out_col", kI8, {shape.rows, shape.cols});
  const int row_stats = call.output("row_stats", kF32, {shape.rows});
  const int col_stats = call.output("col_stats", kF32, {shape.cols});
  const bool columns = outliers == Outliers::kColumns;
  const int outlier_cols = columns ? call.output("outlier_cols", kU8, {shape.cols}) : 0;
  call.invoke = [=](DLTensor *const *t) {
    return cquantize_int8_double(t[A], threshold, t[out_row], t[out_col], t[row_stats], t[col_stats],
                                 columns ? t[outlier_cols] : nullptr, nullptr);
  };
  return call;
}

Call dequantize(DLDataType dtype, Shape shape, Bytes content, const std::vector<float> &row_values) {
  Call call;
  const int A = call.input("A", kI8, {shape.rows, shape.cols}, std::move(content), shape.stride());
  const int row_stats = call.input("row_stats", kF32, {shape.rows}, bytes_of(row_values));
  const int out = call.output("out", dtype, {shape.rows, shape.cols}, Nan::kAny);
  call.invoke = [=](DLTensor *const *t) { return cdequantize_int8_vectorwise(t[A], t[row_stats], t[out], nullptr); };
  return call;
}

// bias: NULL or its dtype.
Call dequantize_mm(DLDataType dtype, Shape shape, const DLDataType *bias_dtype, Bytes content, Random &random) {
  Call call;
  const int A = call.input("A", kI32, {shape.rows, shape.cols}, std::move(content));
  const int row_stats = call.input("row_stats", kF32, {shape.rows}, bytes_of(scales(shape.rows, random)));
  const int col_stats = call.input("col_stats", kF32, {shape.cols}, bytes_of(scales(shape.cols, random)));
  const bool biased = bias_dtype != nullptr;
  const int bias = biased ? call.input("bias", *bias_dtype, {shape.cols},
                                       filled(Fill::kWide, *bias_dtype, shape.cols, shape.cols, {}, random))
                          : 0;
  const int out = call.output("out", dtype, {shape.rows, shape.cols}, Nan::kAny);
  call.invoke = [=](DLTensor *const *t) {
    return cdequantize_int8_mm(t[A], t[row_stats], t[col_stats], biased ? t[bias] : nullptr, t[out], nullptr);
  };
  return call;
}

// Sums of products as they come, and the largest there can be.
Bytes sums(int64_t n, Random &random) {
  std::vector<int32_t> values(static_cast<size_t>(n));
  for (int32_t &value : values) {
    const uint32_t bits = uint32_t(random.bits() >> 32);
    value = random.one_in(2)   ? int32_t(bits) >> 12
            : random.one_in(2) ? int32_t(bits)
                               : INT32_MIN + int32_t(random.below(2));
  }
  return bytes_of(values);
}

Thresholds half_steps() {
  Thresholds thresholds;
  for (int i = 0; i < 127; ++i) {
    thresholds.at.push_back(float(i) + 0.5f);
    thresholds.at.push_back(-float(i) - 0.5f);
  }
  thresholds.top = 127.0f;
  return thresholds;
}

void quantize_cases(Suite &suite, DLDataType dtype) {
  const Thresholds steps = half_steps();
  const auto check = [&](Shape shape, Fill fill, float threshold, Outliers outliers) {
    const std::string rest = text_of(shape) + "/" + name_of(fill) + "/threshold" + std::to_string(threshold) +
                             (outliers == Outliers::kColumns ? "/columns" : "");
    const auto content = [&](Random &random) {
      return filled(fill, dtype, shape.n(), std::max<int64_t>(shape.cols, 1), steps, random);
    };
    suite.check(name("quantize_vectorwise", dtype, rest),
                [&](Random &random) { return quantize(dtype, shape, threshold, outliers, content(random)); });
    suite.check(name("quantize_double", dtype, rest),
                [&](Random &random) { return quantize_double(dtype, shape, threshold, outliers, content(random)); });
  };
  for (Shape shape : shapes(suite.quick())) {
    check(shape, Fill::kMixed, 0.0f, Outliers::kNoColumns);
    check(shape, Fill::kMixed, 2.3f, Outliers::kColumns);
    check(shape, Fill::kNormal, 3.0f, Outliers::kColumns);
  }
  for (Fill fill : kAllFills) {
    for (float threshold : {0.0f, 0x1p-149f, 1.0f, 6.0f, std::numeric_limits<float>::infinity()}) {
      check({11, 101, 2}, fill, threshold, Outliers::kNoColumns);
      check({11, 101, 0}, fill, threshold, Outliers::kColumns);
    }
  }
  if (size_of(dtype) != 2) return;
  for (float partner : {127.0f, 1.0f, 65504.0f, 0x1p-14f}) {
    suite.check(name("quantize_vectorwise", dtype, "all_inputs/beside_" + std::to_string(partner)), [&](Random &) {
      return quantize(dtype, {65536, 2, 0}, 0.0f, Outliers::kNoColumns, all_16bit_beside(dtype, partner));
    });
  }
  suite.check(name("quantize_double", dtype, "all_inputs/in_order"), [&](Random &) {
    return quantize_double(dtype, {512, 128, 0}, 100.0f, Outliers::kColumns, all_16bit(dtype, nullptr));
  });
}

// The marks, and zeros in the marked columns, from their definition: the CPU's tables share the code that drops
// columns.
std::string outlier_columns(DLDataType dtype, Shape shape, float threshold, const Target &target, Random &random) {
  const Bytes content = filled(Fill::kNormal, dtype, shape.n(), shape.cols, {}, random);
  std::vector<Bytes> with, without;
  std::string trouble = run(quantize(dtype, shape, threshold, Outliers::kColumns, content), target, kPlain, &with);
  if (trouble.empty()) {
    trouble = run(quantize(dtype, shape, threshold, Outliers::kNoColumns, content), target, kPlain, &without);
  }
  if (!trouble.empty()) return trouble;
  const Bytes &out = with[1], &marks = with[3];
  for (int64_t col = 0; col < shape.cols; ++col) {
    uint8_t mark = 0;
    for (int64_t i = col; i < shape.n(); i += shape.cols) {
      if (std::fabs(value_of(dtype, content.data() + i * size_of(dtype))) >= threshold) mark = 1;
    }
    if (marks[size_t(col)] != mark) return "outlier_cols[" + std::to_string(col) + "] must be " + std::to_string(mark);
    for (size_t i = size_t(col); i < out.size(); i += size_t(shape.cols)) {
      if (out[i] != (mark ? 0 : without[1][i])) return "column " + std::to_string(col) + ": " + std::to_string(out[i]);
    }
  }
  return "";
}

void outlier_cases(Suite &suite, DLDataType dtype) {
  for (float threshold : {2.0f, 4.5f, 100.0f}) {  // most columns, few of them, none
    for (Shape shape : {Shape{700, 1001, 0}, Shape{33, 63, 5}, Shape{2, 200003, 0}}) {
      if (suite.quick() && shape.cols > 63) continue;
      const std::string rest = "outlier_columns/" + text_of(shape) + "/threshold" + std::to_string(threshold);
      suite.check_on_each(name("quantize_vectorwise", dtype, rest), [&](const Target &target, Random &random) {
        return outlier_columns(dtype, shape, threshold, target, random);
      });
    }
  }
}

void dequantize_cases(Suite &suite, DLDataType dtype) {
  for (Shape shape : shapes(suite.quick())) {
    suite.check(name("dequantize_vectorwise", dtype, text_of(shape)), [&](Random &random) {
      return dequantize(dtype, shape, random_bytes(shape.n(), random), scales(shape.rows, random));
    });
    if (shape.gap) continue;
    suite.check(name("dequantize_mm", dtype, text_of(shape)),
                [&](Random &random) { return dequantize_mm(dtype, shape, nullptr, sums(shape.n(), random), random); });
    for (DLDataType bias : kFloats) {
      suite.check(name("dequantize_mm", dtype, text_of(shape) + "/bias_" + name_of(bias)),
                  [&](Random &random) { return dequantize_mm(dtype, shape, &bias, sums(shape.n(), random), random); });
    }
  }
  suite.check(name("dequantize_vectorwise", dtype, "all_codes"), [&](Random &random) {
    const int64_t rows = suite.quick() ? 16 : 512;
    return dequantize(dtype, {rows, 256, 0}, all_bytes(rows), scales(rows, random));
  });
  suite.check(name("dequantize_vectorwise", dtype, "any_row_stats"), [&](Random &random) {
    const int64_t rows = suite.quick() ? 500 : 10000;
    return dequantize(dtype, {rows, 32, 0}, random_bytes(32 * rows, random), any_floats(rows, random));
  });
}

void bench_cases(Suite &suite, DLDataType dtype) {
  const Shape shape{suite.bench_elements() / 4096, 4096, 0};
  const double n = double(shape.n()), item = double(size_of(dtype));
  const auto content = [&](Random &random) { return filled(Fill::kNormal, dtype, shape.n(), shape.cols, {}, random); };
  suite.bench(name("quantize_vectorwise", dtype, "4096"), n * (item + 1),
              [&](Random &random) { return quantize(dtype, shape, 0.0f, Outliers::kNoColumns, content(random)); });
  suite.bench(name("quantize_vectorwise", dtype, "4096/outliers"), n * (item + 1),
              [&](Random &random) { return quantize(dtype, shape, 6.0f, Outliers::kColumns, content(random)); });
  suite.bench(name("quantize_double", dtype, "4096"), n * (item + 2), [&](Random &random) {
    return quantize_double(dtype, shape, 0.0f, Outliers::kNoColumns, content(random));
  });
  suite.bench(name("dequantize_vectorwise", dtype, "4096"), n * (item + 1), [&](Random &random) {
    return dequantize(dtype, shape, random_bytes(shape.n(), random), std::vector<float>(size_t(shape.rows), 1.0f));
  });
  suite.bench(name("dequantize_mm", dtype, "4096"), n * (item + 4),
              [&](Random &random) { return dequantize_mm(dtype, shape, nullptr, sums(shape.n(), random), random); });
}

}  // namespace

CONFORMANCE(int8) {
  for (DLDataType dtype : kFloats) {
    quantize_cases(suite, dtype);
    outlier_cases(suite, dtype);
    dequantize_cases(suite, dtype);
    bench_cases(suite, dtype);
  }
}
