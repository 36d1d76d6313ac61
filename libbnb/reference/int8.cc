// SPDX-License-Identifier: MIT
// LLM.int8() quantization, written to be read.
#include <cmath>

#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {
namespace {

template <typename Tag>
struct Matrix {
  const QuantizeInt8Args &args;

  float at(int64_t row, int64_t col) const { return load_float<Tag>(args.a, row * args.row_stride + col); }
  bool is_outlier(float x) const { return args.threshold > 0.0f && std::fabs(x) >= args.threshold; }

  // An outlier counts as zero in the statistics and in the codes.
  float inlier(int64_t row, int64_t col) const {
    const float x = at(row, col);
    return is_outlier(x) ? 0.0f : x;
  }
};

// x scaled so that absmax becomes 127, half to even; 0 in a row with NaN.
int8_t encode(float x, float absmax) {
  if (std::isnan(absmax)) return 0;
  if (absmax == 0.0f || std::isinf(absmax)) return int8_t(127.0f * normalise(x, absmax));
  const float scale = 127.0f / absmax;
  return int8_t(std::nearbyintf(std::isinf(scale) ? x / absmax * 127.0f : x * scale));
}

}  // namespace

void int8_row_stats(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const Matrix<decltype(tag)> a{args};
    for (int64_t row = begin; row < end; ++row) {
      store<float>(args.row_stats, row, absmax_of(0, args.cols, [&](int64_t col) { return a.inlier(row, col); }));
      for (int64_t col = 0; args.outlier_cols && col < args.cols; ++col) {
        if (a.is_outlier(a.at(row, col))) __atomic_store_n(args.outlier_cols + col, uint8_t(1), __ATOMIC_RELAXED);
      }
    }
  });
}

void int8_col_stats(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const Matrix<decltype(tag)> a{args};
    for (int64_t col = begin; col < end; ++col) {
      store<float>(args.col_stats, col, absmax_of(0, args.rows, [&](int64_t row) { return a.inlier(row, col); }));
    }
  });
}

void int8_quantize_rows(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const Matrix<decltype(tag)> a{args};
    for (int64_t row = begin; row < end; ++row) {
      const float absmax = load<float>(args.row_stats, row);
      for (int64_t col = 0; col < args.cols; ++col) {
        args.out[row * args.cols + col] = encode(a.inlier(row, col), absmax);
      }
    }
  });
}

void int8_quantize_cols(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const Matrix<decltype(tag)> a{args};
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t col = 0; col < args.cols; ++col) {
        args.out_col[row * args.cols + col] = encode(a.inlier(row, col), load<float>(args.col_stats, col));
      }
    }
  });
}

void dequantize_int8(const DequantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t row = begin; row < end; ++row) {
      const float stats = load<float>(args.row_stats, row);
      for (int64_t col = 0; col < args.cols; ++col) {
        const float value = float(args.a[row * args.row_stride + col]) * stats * (1.0f / 127.0f);
        store_float<decltype(tag)>(args.out, row * args.cols + col, value);
      }
    }
  });
}

void dequantize_int8_mm(const DequantizeInt8MmArgs &args, int64_t begin, int64_t end) {
  const auto bias = [&](int64_t col) {
    float value = 0.0f;
    with_float(args.bias_dtype, [&](auto tag) { value = load_float<decltype(tag)>(args.bias, col); });
    return value;
  };
  with_float(args.dtype, [&](auto tag) {
    for (int64_t row = begin; row < end; ++row) {
      const float row_stats = load<float>(args.row_stats, row);
      for (int64_t col = 0; col < args.cols; ++col) {
        const int64_t i = row * args.cols + col;
        const float scale = row_stats * load<float>(args.col_stats, col);
        float value = float(load<int32_t>(args.a, i)) * scale * (1.0f / (127.0f * 127.0f));
        if (args.bias) value += bias(col);
        store_float<decltype(tag)>(args.out, i, value);
      }
    }
  });
}

}  // namespace bnb::reference
