// SPDX-License-Identifier: MIT
// Sparse times dense on the CPU: indices are looked at, values put in the order of rows, and the work is cut.
#include <cstring>

#include "core/scratch.h"
#include "cpu/float_environment.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/workspace.h"

namespace bnb::cpu {
namespace {

bnb_status check_indices(const GemmCooArgs &args) {
  for (int64_t i = 0; i < args.nnz; ++i) {
    const int64_t row = load<int32_t>(args.rowidx, i), column = load<int32_t>(args.colidx, i);
    if (row < 0 || row >= args.m) {
      return fail(BNB_ERROR_INVALID_ARGUMENT, "rowidx[%lld] is %lld, must be 0 to %lld, a row of out", (long long)i,
                  (long long)row, (long long)(args.m - 1));
    }
    if (column < 0 || column >= args.k) {
      return fail(BNB_ERROR_INVALID_ARGUMENT, "colidx[%lld] is %lld, must be 0 to %lld, what B has for the columns of S",
                  (long long)i, (long long)column, (long long)(args.k - 1));
    }
  }
  return BNB_OK;
}

float value_at(const GemmCooArgs &args, int64_t i) {
  float value = 0.0f;
  if (args.value_dtype == DType::kI8) {
    value = float(load<int8_t>(args.values, i));
  } else {
    with_float(args.value_dtype, [&](auto tag) { value = load_float<decltype(tag)>(args.values, i); });
  }
  return args.value_scale ? value * load<float>(args.value_scale, 0) : value;
}

// The values of each row one behind the other, in the order in which they came.
void sort_by_rows(const GemmCooArgs &args, int64_t *row_starts, int32_t *columns, float *factors) {
  const DefaultFloatEnvironment environment;
  std::memset(row_starts, 0, size_t(args.m + 1) * sizeof *row_starts);
  for (int64_t i = 0; i < args.nnz; ++i) ++row_starts[load<int32_t>(args.rowidx, i) + 1];
  for (int64_t row = 0; row < args.m; ++row) row_starts[row + 1] += row_starts[row];
  for (int64_t i = 0; i < args.nnz; ++i) {  // leaves every start where the row ends
    const int64_t to = row_starts[load<int32_t>(args.rowidx, i)]++;
    columns[to] = load<int32_t>(args.colidx, i);
    factors[to] = value_at(args, i);
  }
  std::memmove(row_starts + 1, row_starts, size_t(args.m) * sizeof *row_starts);
  row_starts[0] = 0;
}

// Replaces columns by their numbers among those that occur, which are listed in `used`; returns how many there are.
int64_t number_columns(const GemmCooArgs &args, int32_t *columns, int32_t *numbers, int32_t *used) {
  std::memset(numbers, 0, size_t(args.k) * sizeof *numbers);
  for (int64_t i = 0; i < args.nnz; ++i) numbers[columns[i]] = 1;
  int32_t count = 0;
  for (int64_t column = 0; column < args.k; ++column) {
    if (!numbers[column]) continue;
    used[count] = int32_t(column);
    numbers[column] = count++;
  }
  for (int64_t i = 0; i < args.nnz; ++i) columns[i] = numbers[columns[i]];
  return count;
}

}  // namespace

bnb_status gemm_coo(const GemmCooArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  const bnb_status status = check_indices(args);
  if (status != BNB_OK || args.m == 0 || args.n == 0) return status;

  const int64_t numbered = args.transposed_b && args.nnz > 0 ? args.k : 0;
  const Scratch<int64_t> row_starts(args.m + 1);
  const Scratch<int32_t> columns(args.nnz), numbers(numbered), used(numbered);
  const Scratch<float> factors(args.nnz);
  if (!row_starts.usable() || !columns.usable() || !factors.usable() || !numbers.usable() || !used.usable()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory to sort %lld values in", (long long)args.nnz);
  }
  sort_by_rows(args, row_starts.data(), columns.data(), factors.data());

  GemmCooKernelArgs shared{};
  static_cast<GemmCooArgs &>(shared) = args;
  shared.row_starts = row_starts.data();
  shared.columns = columns.data();
  shared.factors = factors.data();
  shared.used_columns = used.data();
  shared.used = numbered ? number_columns(args, columns.data(), numbers.data(), used.data()) : 0;

  // Columns are shared out first; rows, where there are not enough of those.
  const int threads = bnb_get_num_threads();
  const int64_t across = ceil_div(args.n, kCooColumns), parts = ceil_div(4 * int64_t(threads), across);
  shared.unit_rows = ceil_div(args.m, parts < args.m ? parts : args.m);
  ProductPlan plan{};
  plan.units = across * ceil_div(args.m, shared.unit_rows);
  plan.unit_cost = ((args.nnz + shared.used * 4) / plan.units + shared.unit_rows) * kCooColumns;
  plan.scratch_bytes = shared.used * kCooColumns * int64_t(sizeof(float));
  return run_product(
      plan, threads, [](char *, int64_t, int64_t) {},
      [&](char *, char *scratch, int64_t begin, int64_t end) {
        GemmCooKernelArgs own = shared;
        own.scratch = reinterpret_cast<float *>(scratch);
        kernels->gemm_coo(own, begin, end);
      });
}

}  // namespace bnb::cpu
