// SPDX-License-Identifier: MIT
// The small operations of core/tool_ops.h that go through arrays once.
#include <cmath>

#include "core/scratch.h"
#include "core/status.h"
#include "core/sums.h"
#include "cpu/float_environment.h"
#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

// Number of midpoints strictly below x, by halving and without a branch; NaN gives 0.
uint8_t nearest(const float *midpoints, float x) {
  uint32_t code = 0;
  for (int bit = 7; bit >= 0; --bit) code |= uint32_t(x > midpoints[code + (1u << bit) - 1]) << bit;
  return uint8_t(code);
}

int8_t saturated(float x) {
  if (std::isnan(x)) return 0;
  return int8_t(std::nearbyint(x > 127.0f ? 127.0f : x < -128.0f ? -128.0f : x));
}

}  // namespace

bnb_status nearest_code(const NearestCodeArgs &args, Queue) {
  const DefaultFloatEnvironment environment;
  float midpoints[255];
  for (int i = 0; i < 255; ++i) midpoints[i] = (load<float>(args.code, i) + load<float>(args.code, i + 1)) * 0.5f;
  parallel_for(args.n, sizeof(float) + 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) args.out[i] = nearest(midpoints, load<float>(args.a, i));
  });
  return BNB_OK;
}

bnb_status percentile_clipping(const PercentileClippingArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const DefaultFloatEnvironment environment;
  const int64_t sections = ceil_div(args.n, kSumSection);
  const Scratch<double> sums(sections);
  if (!sums.usable()) return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %lld sums", (long long)sections);
  SumSquaresArgs kernel_args{};
  static_cast<FloatArray &>(kernel_args) = {args.dtype, args.g, args.n};
  kernel_args.sums = sums.data();
  parallel_for(sections, kSumSection * float_size(args.dtype), 1,
               [&](int64_t begin, int64_t end) { kernels->sum_squares(kernel_args, begin, end); });
  double squares = 0.0;
  for (int64_t i = 0; i < sections; ++i) squares += sums[i];
  const int64_t first = args.step == 1 ? 0 : args.step % kGnormHistory;
  const int64_t last = args.step == 1 ? kGnormHistory : first + 1;
  for (int64_t i = first; i < last; ++i) store<float>(args.gnorm_vec, i, float(squares));
  return BNB_OK;
}

bnb_status histogram_add(const HistogramAddArgs &args, Queue) {
  const DefaultFloatEnvironment environment;
  for (int64_t i = 0; i < args.n; ++i) {  // before the first sum changes
    const int32_t row = load<int32_t>(args.rows, i), col = load<int32_t>(args.cols, i);
    if (row < 0 || col < 0 || col >= args.row_length) {
      return fail(BNB_ERROR_INVALID_ARGUMENT, "%s: source[%lld] goes to [%d, %d], outside of rows of %lld", args.caller,
                  (long long)i, int(row), int(col), (long long)args.row_length);
    }
  }
  for (int64_t i = 0; i < args.n; ++i) {  // one thread: sums in fp32 have the bits of their order
    const int64_t cell = load<int32_t>(args.rows, i) * args.row_length + load<int32_t>(args.cols, i);
    store<float>(args.histogram, cell, load<float>(args.histogram, cell) + load<float>(args.added, i));
  }
  return BNB_OK;
}

bnb_status fill(const FillArgs &args, Queue) {
  const bool bytes = args.dtype == DType::kU8;
  parallel_for(args.n, bytes ? 1 : 4, 1, [&](int64_t begin, int64_t end) {
    if (bytes) {
      std::memset(static_cast<uint8_t *>(args.a) + begin, args.byte, size_t(end - begin));
    } else {
      for (int64_t i = begin; i < end; ++i) store<float>(args.a, i, args.value);
    }
  });
  return BNB_OK;
}

bnb_status arange(const ArangeArgs &args, Queue) {
  parallel_for(args.n, 4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) store<float>(args.a, i, float(i));
  });
  return BNB_OK;
}

bnb_status multiply(const MultiplyArgs &args, Queue) {
  parallel_for(args.n, 12, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) store<float>(args.a, i, load<float>(args.a, i) * load<float>(args.b, i));
  });
  return BNB_OK;
}

bnb_status transpose_int8(const TransposeInt8Args &args, Queue) {
  parallel_for(args.cols, args.rows * 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < args.rows; ++row) {
      for (int64_t i = begin; i < end; ++i) args.out[i * args.rows + row] = args.a[row * args.a_stride + i];
    }
  });
  return BNB_OK;
}

bnb_status saturate_int8(const SaturateInt8Args &args, Queue) {
  const DefaultFloatEnvironment environment;
  parallel_for(args.rows, args.cols * 5, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t col = 0; col < args.cols; ++col) {
        const float sum = float(args.a[row * args.cols + col]);
        args.out[row * args.out_stride + col] = saturated(args.scales ? sum * load<float>(args.scales, col) : sum);
      }
    }
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
