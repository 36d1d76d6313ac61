// SPDX-License-Identifier: MIT
// Statistics of LLM.int8() by themselves, and quantization by given ones with the outliers in coordinate form.
#include <atomic>

#include "core/status.h"
#include "cpu/ops/ops.h"

namespace bnb::cpu {
namespace {

constexpr int64_t kColumnsPerStrip = 64;
constexpr uint16_t kMagnitude = 0x7FFF, kInfinity = 0x7C00;  // of fp16 bits

// Tells outliers by their bits: those of a magnitude order as it does, and NaN, which is above infinity, is none.
struct Outliers {
  uint16_t lowest;  // the smallest fp16 that is one

  explicit Outliers(float threshold) : lowest(kInfinity + 1) {
    if (!(threshold > 0.0f)) return;
    lowest = formats::fp16_from_float(threshold);
    lowest = uint16_t(lowest + (formats::float_from_fp16(lowest) < threshold));
  }
  bool has(uint16_t bits) const { return (bits & kMagnitude) >= lowest && (bits & kMagnitude) <= kInfinity; }

  int32_t in_row(const void *a, int64_t row, int64_t cols) const {
    int32_t count = 0;
    for (int64_t col = 0; col < cols; ++col) count += has(load<uint16_t>(a, row * cols + col));
    return count;
  }
};

// rne(x * (127 / stats)) as the quantizers have it; what does not fit saturates, for the caller's statistics may be too
// small. fp16 statistics are 0 or at least 2^-24, but these are fp32: where 127 / stats overflows, x / stats comes
// first.
class Encoder {
 public:
  explicit Encoder(float stats) : stats_(stats), scale_(127.0f / stats) {}

  int8_t operator()(float x) const {
    if (!(stats_ > 0.0f)) return 0;  // zero, NaN
    if (stats_ == __builtin_inff()) return __builtin_isinf(x) ? (x > 0.0f ? 127 : -127) : 0;
    const float scaled = scale_ == __builtin_inff() ? x / stats_ * 127.0f : x * scale_;
    if (scaled != scaled) return 0;
    const float bounded = scaled > 127.0f ? 127.0f : scaled < -127.0f ? -127.0f : scaled;
    return int8_t((bounded + kRound) - kRound);
  }

 private:
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a sum with it has no room for fractions
  float stats_, scale_;
};

void quantize_row(const QuantizeInt8SparseArgs &args, const Outliers &outliers, int64_t row) {
  const Encoder by_row(load<float>(args.row_stats, row));
  int64_t next = args.row_offsets ? load<int32_t>(args.row_offsets, row) : 0;
  for (int64_t col = 0; col < args.cols; ++col) {
    const int64_t i = row * args.cols + col;
    const uint16_t bits = load<uint16_t>(args.a, i);
    const bool outlier = outliers.has(bits);
    const float x = outlier ? 0.0f : formats::float_from_fp16(bits);
    args.out_row[i] = by_row(x);
    args.out_col[i] = Encoder(load<float>(args.col_stats, col))(x);
    if (outlier && args.row_offsets) {
      store<int32_t>(args.row_indices, next, int32_t(row));
      store<int32_t>(args.col_indices, next, int32_t(col));
      store<uint16_t>(args.values, next, bits);
      ++next;
    }
  }
}

// The first row whose share of the sparse output is not what row_offsets says; args.rows if all fit.
int64_t first_misfit(const QuantizeInt8SparseArgs &args, const Outliers &outliers) {
  if (args.rows > 0 && load<int32_t>(args.row_offsets, 0) != 0) return 0;
  std::atomic<int64_t> misfit{args.rows};
  parallel_for(args.rows, args.cols * 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t room = int64_t(load<int32_t>(args.row_offsets, row + 1)) - load<int32_t>(args.row_offsets, row);
      if (room == outliers.in_row(args.a, row, args.cols)) continue;
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
  kernel_args.dtype = DType::kF16;
  kernel_args.a = args.a;
  kernel_args.rows = args.rows;
  kernel_args.cols = kernel_args.row_stride = args.cols;
  kernel_args.threshold = args.threshold;
  kernel_args.row_stats = args.row_stats;
  kernel_args.col_stats = args.col_stats;
  const Outliers outliers(args.threshold);
  if (args.row_outliers) store<int32_t>(args.row_outliers, 0, 0);
  parallel_for(args.rows, args.cols * 2, 1, [&](int64_t begin, int64_t end) {
    kernels->int8_row_stats(kernel_args, begin, end);
    for (int64_t row = begin; args.row_outliers && row < end; ++row) {
      store<int32_t>(args.row_outliers, row + 1, outliers.in_row(args.a, row, args.cols));
    }
  });
  if (args.col_stats) {
    parallel_for(args.cols, args.rows * 2, kColumnsPerStrip,
                 [&](int64_t begin, int64_t end) { kernels->int8_col_stats(kernel_args, begin, end); });
  }
  return BNB_OK;
}

bnb_status quantize_int8_sparse(const QuantizeInt8SparseArgs &args, Queue) {
  const Outliers outliers(args.threshold);
  if (args.row_offsets) {
    const int64_t row = first_misfit(args, outliers);
    if (row < args.rows) {
      return fail(
          BNB_ERROR_INVALID_ARGUMENT,
          "%s: nnz_row_ptr must start at 0 and grow by %d outliers (|x| >= %g) in row %lld, but goes from %d to %d",
          args.caller, int(outliers.in_row(args.a, row, args.cols)), double(args.threshold), (long long)row,
          int(load<int32_t>(args.row_offsets, row)), int(load<int32_t>(args.row_offsets, row + 1)));
    }
  }
  parallel_for(args.rows, args.cols * 4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) quantize_row(args, outliers, row);
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
