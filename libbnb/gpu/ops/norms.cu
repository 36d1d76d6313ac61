// SPDX-License-Identifier: MIT
// Norms of lists of tensors: one read of all of them, sums in the order of core/sums.h. EXACT.
//
// A launch sums the sections of as many tensors as fit its parameters; one more adds up each tensor's, and a last one all tensors.
#include "gpu/launch.h"
#include "gpu/ops.h"
#include "gpu/section_sums.h"

namespace bnb::gpu {
namespace {

constexpr int kTensors = 96;  // of a launch

struct Batch {
  FloatArray tensors[kTensors];
  int64_t first_section[kTensors + 1];  // from the beginning of the list
  int64_t first_tensor;
  int count;
};
static_assert(sizeof(Batch) <= 3900, "parameters of a kernel are at most 4 KB");

// sums[section] of the list; and where each tensor's sections begin, for the next kernel.
BNB_KERNEL void BNB_THREADS(kSectionThreads) sum_sections(Batch batch, double *sums, int64_t *starts) {
  BNB_SHARED double pieces[kSectionPieces];
  if (grid_index() == 0) {
    for (int i = int(thread_index()); i < batch.count; i += kSectionThreads) {
      starts[batch.first_tensor + i] = batch.first_section[i];
    }
  }
  int t = 0;
  for (int64_t section = batch.first_section[0] + grid_index(); section < batch.first_section[batch.count];
       section += grid_count()) {
    while (section >= batch.first_section[t + 1]) ++t;
    const DType dtype = batch.tensors[t].dtype;
    const void *data = batch.tensors[t].data;
    const int64_t n = batch.tensors[t].n, first = section_element(section - batch.first_section[t], 0);
    SquareLanes lanes;
    constexpr int kAhead = 8;  // loads on their way
    for (int step = 0; step < kSectionSteps; step += kAhead) {
      const int64_t i = first + step * int(kSumLanes);
      if (i >= n) break;
      RawFour raw[kAhead];
      BNB_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        const int64_t at = i + k * int(kSumLanes);
        raw[k] = load_four(dtype, data, at, count_of_four(n, at));
      }
      BNB_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        float x[kFour];
        widen_four(dtype, raw[k], x);
        lanes.add(x);
      }
    }
    const double sum = section_sum(lanes, pieces);
    if (thread_index() == 0) sums[section] = sum;
  }
}

BNB_DEVICE void store_number(DType dtype, void *array, int64_t i, double value) {
  if (dtype == DType::kF64) {
    store<double>(array, i, value);
  } else {
    store<float>(array, i, float(value));
  }
}

struct Sums {
  double *sections;
  double *tensors;
  int64_t *starts;         // [count]
  int64_t total_sections;  // where the last tensor's end
};

BNB_KERNEL void BNB_THREADS(kSectionThreads) sum_tensors(Sums sums, MeasureNormsArgs args) {
  BNB_SHARED double staged[kSectionThreads];
  for (int64_t i = grid_index(); i < args.count; i += grid_count()) {
    const int64_t begin = sums.starts[i], end = i + 1 < args.count ? sums.starts[i + 1] : sums.total_sections;
    const double sum = ordered_sum(sums.sections + begin, end - begin, staged);
    if (thread_index() != 0) continue;
    sums.tensors[i] = sum;
    if (args.norms) store_number(args.norms_dtype, args.norms, i, sqrt(sum));
  }
}

BNB_KERNEL void BNB_THREADS(kSectionThreads) sum_list(Sums sums, MeasureNormsArgs args) {
  BNB_SHARED double staged[kSectionThreads];
  const double total = ordered_sum(sums.tensors, args.count, staged);
  if (thread_index() != 0) return;
  if (args.total) store_number(args.total_dtype, args.total, 0, sqrt(total));
  if (args.found_inf && !is_finite(total)) store<float>(args.found_inf, 0, 1.0f);
}

}  // namespace

bnb_status measure_norms(const MeasureNormsArgs &args, Queue queue) {
  int64_t sections = 0;
  for (int64_t i = 0; i < args.count; ++i) sections += ceil_div(args.tensors[i].n, kSumSection);
  const Workspace workspace(queue, size_t(sections + 2 * args.count) * sizeof(double));
  if (workspace.status() != BNB_OK) return workspace.status();
  Sums sums;
  sums.sections = static_cast<double *>(workspace.data());
  sums.tensors = sums.sections + sections;
  sums.starts = reinterpret_cast<int64_t *>(sums.tensors + args.count);
  sums.total_sections = sections;

  bnb_status status = BNB_OK;
  Batch batch;
  batch.first_section[0] = 0;
  for (int64_t i = 0; i < args.count && status == BNB_OK; i += batch.count) {
    batch.first_tensor = i;
    batch.count = int(args.count - i < kTensors ? args.count - i : kTensors);
    for (int t = 0; t < batch.count; ++t) {
      batch.tensors[t] = args.tensors[i + t];
      batch.first_section[t + 1] = batch.first_section[t] + ceil_div(args.tensors[i + t].n, kSumSection);
    }
    const int64_t of_batch = batch.first_section[batch.count] - batch.first_section[0];
    const Grid grid{blocks_for(queue, of_batch > 0 ? of_batch : 1, 8), kSectionThreads};
    status = launch(sum_sections, grid, queue, batch, sums.sections, sums.starts);
    batch.first_section[0] = batch.first_section[batch.count];
  }
  if (status == BNB_OK) status = launch(sum_tensors, {blocks_for(queue, args.count, 8), kSectionThreads}, queue, sums, args);
  if (status == BNB_OK) status = launch(sum_list, {1, kSectionThreads}, queue, sums, args);
  return status;
}

}  // namespace bnb::gpu
