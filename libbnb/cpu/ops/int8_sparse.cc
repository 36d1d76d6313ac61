// SPDX-License-Identifier: MIT
// Statistics of LLM.int8() by themselves, and quantization by given ones with the outliers in coordinate form.
#include <atomic>
#include <cmath>

#include "core/status.h"
#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

constexpr int64_t kColumnsPerStrip = 64;

bool is_outlier(float x, float threshold) { return threshold > 0.0f && std::fabs(x) >= threshold; }

// Calls body(value of A[row, col], col) along a row.
template <typename Args, typename Body>
void for_row(const Args &args, int64_t row, Body &&body) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t col = 0; col < args.cols; ++col) body(load_float<decltype(tag)>(args.a, row * args.cols + col), col);
  });
}

template <typename Args>
int32_t outliers_in_row(const Args &args, int64_t row) {
  int32_t count = 0;
  for_row(args, row, [&](float x, int64_t) { count += is_outlier(x, args.threshold); });
  return count;
}

// rne(x * (127 / stats)) as the quantizers have it; what does not fit saturates, for the caller's statistics may be too
// small.
int8_t encode(float x, float stats) {
  if (!(stats > 0.0f)) return 0;  // zero, NaN
  if (std::isinf(stats)) return std::isinf(x) ? int8_t(std::copysign(127.0f, x)) : int8_t(0);
  const float scale = 127.0f / stats;
  const float scaled = std::isinf(scale) ? x / stats * 127.0f : x * scale;
  if (std::isnan(scaled)) return 0;
  return int8_t(std::nearbyintf(std::fmin(std::fmax(scaled, -127.0f), 127.0f)));
}

void quantize_row(const QuantizeInt8SparseArgs &args, int64_t row) {
  const float row_stats = load<float>(args.row_stats, row);
  int64_t next = args.row_offsets ? load<int32_t>(args.row_offsets, row) : 0;
  for_row(args, row, [&](float x, int64_t col) {
    const int64_t i = row * args.cols + col;
    const bool outlier = is_outlier(x, args.threshold);
    args.out_row[i] = outlier ? int8_t(0) : encode(x, row_stats);
    args.out_col[i] = outlier ? int8_t(0) : encode(x, load<float>(args.col_stats, col));
    if (outlier && args.row_offsets) {
      store<int32_t>(args.row_indices, next, int32_t(row));
      store<int32_t>(args.col_indices, next, int32_t(col));
      store<uint16_t>(args.values, next, load<uint16_t>(args.a, i));
      ++next;
    }
  });
}

// The first row whose share of the sparse output is not what row_offsets says; args.rows if all fit.
int64_t first_misfit(const QuantizeInt8SparseArgs &args) {
  if (args.rows > 0 && load<int32_t>(args.row_offsets, 0) != 0) return 0;
  std::atomic<int64_t> misfit{args.rows};
  parallel_for(args.rows, args.cols * float_size(args.dtype), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t room = int64_t(load<int32_t>(args.row_offsets, row + 1)) - load<int32_t>(args.row_offsets, row);
      if (room == outliers_in_row(args, row)) continue;
      int64_t lowest = misfit.load(std::memory_order_relaxed);
      while (row < lowest && !misfit.compare_exchange_weak(lowest, row, std::memory_order_relaxed)) {
      }
      return;
    }
  });
  return misfit.load(std::memory_order_relaxed);
}

}  // namespace

bnb_status int8_stats(const Int8StatsArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  QuantizeInt8Args kernel_args{};
  kernel_args.dtype = args.dtype;
  kernel_args.a = args.a;
  kernel_args.rows = args.rows;
  kernel_args.cols = kernel_args.row_stride = args.cols;
  kernel_args.threshold = args.threshold;
  kernel_args.row_stats = args.row_stats;
  kernel_args.col_stats = args.col_stats;
  if (args.row_outliers) store<int32_t>(args.row_outliers, 0, 0);
  parallel_for(args.rows, args.cols * float_size(args.dtype), 1, [&](int64_t begin, int64_t end) {
    kernels->int8_row_stats(kernel_args, begin, end);
    for (int64_t row = begin; args.row_outliers && row < end; ++row) {
      store<int32_t>(args.row_outliers, row + 1, outliers_in_row(args, row));
    }
  });
  if (args.col_stats) {
    parallel_for(args.cols, args.rows * float_size(args.dtype), kColumnsPerStrip,
                 [&](int64_t begin, int64_t end) { kernels->int8_col_stats(kernel_args, begin, end); });
  }
  return BNB_OK;
}

bnb_status quantize_int8_sparse(const QuantizeInt8SparseArgs &args, Queue) {
  if (args.row_offsets) {
    const int64_t row = first_misfit(args);
    if (row < args.rows) {
      return fail(
          BNB_ERROR_INVALID_ARGUMENT,
          "%s: nnz_row_ptr must start at 0 and grow by %d outliers (|x| >= %g) in row %lld, but goes from %d to %d",
          args.caller, int(outliers_in_row(args, row)), double(args.threshold), (long long)row,
          int(load<int32_t>(args.row_offsets, row)), int(load<int32_t>(args.row_offsets, row + 1)));
    }
  }
  parallel_for(args.rows, args.cols * (float_size(args.dtype) + 2), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) quantize_row(args, row);
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
