// SPDX-License-Identifier: MIT
// The small operations of core/tool_ops.h that go through arrays once. EXACT.
#include "gpu/launch.h"
#include "gpu/ops.h"
#include "gpu/section_sums.h"
#include "gpu/vectors.h"

namespace bnb::gpu {
namespace {

constexpr int kToolThreads = 256, kToolItems = 4;

inline Grid tool_grid(const Queue &queue, int64_t n, int blocks_per_multiprocessor) {
  return {blocks_for(queue, ceil_div(n, kToolThreads * kToolItems), blocks_per_multiprocessor), kToolThreads};
}

// The running thread's first element of an array, and how far it is to its next ones.
BNB_DEVICE int64_t tool_begin() { return (int64_t(grid_index()) * kToolThreads + thread_index()) * kToolItems; }
BNB_DEVICE int64_t tool_step() { return int64_t(grid_count()) * kToolThreads * kToolItems; }

// The number of midpoints strictly below each element; NaN gives 0.
BNB_KERNEL void BNB_THREADS(kToolThreads) find_nearest(NearestCodeArgs args) {
  constexpr uint32_t kCodes = 256;
  BNB_SHARED float midpoints[kCodes];
  for (uint32_t i = thread_index(); i + 1 < kCodes; i += kToolThreads) {
    midpoints[i] = (load<float>(args.code, i) + load<float>(args.code, i + 1)) * 0.5f;
  }
  barrier();
  for (int64_t i = tool_begin(); i < args.n; i += tool_step()) {
    const auto x = load_up_to<float, kToolItems>(args.a, i, args.n - i);
    Items<uint8_t, kToolItems> codes;
    BNB_UNROLL
    for (int j = 0; j < kToolItems; ++j) {
      uint32_t code = 0;
      BNB_UNROLL
      for (uint32_t step = kCodes / 2; step > 0; step /= 2) code += x.at[j] > midpoints[code + step - 1] ? step : 0;
      codes.at[j] = uint8_t(code);
    }
    store_up_to<uint8_t, kToolItems>(args.out, i, args.n - i, codes);
  }
}

BNB_KERNEL void BNB_THREADS(kSectionThreads) sum_sections(PercentileClippingArgs args, double *sums) {
  BNB_SHARED double pieces[kSectionPieces];
  constexpr int kAhead = 8;  // loads on their way
  for (int64_t section = grid_index(); section * kSumSection < args.n; section += grid_count()) {
    SquareLanes lanes;
    for (int step = 0; step < kSectionSteps; step += kAhead) {
      const int64_t i = section_element(section, step);
      if (i >= args.n) break;
      RawFour raw[kAhead];
      BNB_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        raw[k] = load_four(args.dtype, args.g, i + k * int(kSumLanes), args.n - i - k * int(kSumLanes));
      }
      BNB_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        float x[kFour];
        widen_four(args.dtype, raw[k], x);
        lanes.add(x);
      }
    }
    const double sum = section_sum(lanes, pieces);
    if (thread_index() == 0) sums[section] = sum;
  }
}

BNB_KERNEL void BNB_THREADS(kSectionThreads) remember_sum(PercentileClippingArgs args, const double *sums) {
  BNB_SHARED double staged[kSectionThreads];
  BNB_SHARED float squares;
  const double sum = ordered_sum(sums, ceil_div(args.n, kSumSection), staged);
  if (thread_index() == 0) squares = float(sum);
  barrier();
  const int64_t first = args.step == 1 ? 0 : args.step % kGnormHistory, last = args.step == 1 ? kGnormHistory : first + 1;
  for (int64_t i = first + thread_index(); i < last; i += kSectionThreads) store<float>(args.gnorm_vec, i, squares);
}

// Sums in fp32 have the bits of their order, and that is the order of the elements, in each cell. So every cell is some one block's:
// it reads all indices, picks those of its cells in the order in which they come, and adds them up.
constexpr int kHistogramItems = 8, kHistogramChunk = kToolThreads * kHistogramItems;

BNB_DEVICE bool is_mine(int64_t cell) {
  const uint64_t mixed = uint64_t(cell) * 0x9E3779B97F4A7C15u >> 32;
  return mixed * grid_count() >> 32 == grid_index();
}

// The number of picked elements in threads before the running one, and in all of them. of_warps: shared.
BNB_DEVICE uint32_t picked_before(uint32_t mine, uint32_t *of_warps, uint32_t *all) {
  const int lane = int(lane_index()), warps = kToolThreads / kWarp;
  uint32_t up_to_here = mine;
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t before = shuffle(up_to_here, lane >= step ? lane - step : lane);
    if (lane >= step) up_to_here += before;
  }
  if (lane == kWarp - 1) of_warps[warp_index()] = up_to_here;
  barrier();
  uint32_t before = up_to_here - mine;
  *all = 0;
  for (int i = 0; i < warps; ++i) {
    if (i < int(warp_index())) before += of_warps[i];
    *all += of_warps[i];
  }
  return before;
}

BNB_KERNEL void BNB_THREADS(kToolThreads) add_to_cells(HistogramAddArgs args) {
  BNB_SHARED int64_t cells[kHistogramChunk];
  BNB_SHARED float added[kHistogramChunk];
  BNB_SHARED uint32_t of_warps[kToolThreads / 32];
  constexpr int kTogether = 4;
  for (int64_t first = 0; first < args.n; first += kHistogramChunk) {
    const int64_t begin = first + int64_t(thread_index()) * kHistogramItems;
    int64_t cell[kHistogramItems];
    uint32_t mine = 0;
    BNB_UNROLL
    for (int v = 0; v < kHistogramItems; v += kTogether) {
      const auto rows = load_up_to<int32_t, kTogether>(args.rows, begin + v, args.n - begin - v);
      const auto cols = load_up_to<int32_t, kTogether>(args.cols, begin + v, args.n - begin - v);
      BNB_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        // What lies outside is an error on the CPU, where it can be reported; here it is left out.
        const bool inside = begin + v + j < args.n && rows.at[j] >= 0 && cols.at[j] >= 0 && cols.at[j] < args.row_length;
        cell[v + j] = rows.at[j] * args.row_length + cols.at[j];
        mine |= uint32_t(inside && is_mine(cell[v + j])) << (v + j);
      }
    }
    uint32_t picked;
    uint32_t at = picked_before(count_bits(mine), of_warps, &picked);
    BNB_UNROLL
    for (int j = 0; j < kHistogramItems; ++j) {
      if (!(mine >> j & 1u)) continue;
      cells[at] = cell[j];
      added[at] = load<float>(args.added, begin + j);
      ++at;
    }
    barrier();
    for (uint32_t i = thread_index(); i < picked; i += kToolThreads) {
      uint32_t earlier = 0;
      while (earlier < i && cells[earlier] != cells[i]) ++earlier;
      if (earlier < i) continue;  // the first of a cell adds them all
      float sum = load<float>(args.histogram, cells[i]) + added[i];
      for (uint32_t j = i + 1; j < picked; ++j) {
        if (cells[j] == cells[i]) sum += added[j];
      }
      store<float>(args.histogram, cells[i], sum);
    }
    barrier();
  }
}

BNB_KERNEL void BNB_THREADS(kToolThreads) fill_floats(void *a, int64_t n, float value) {
  const Items<float, kToolItems> items{{value, value, value, value}};
  for (int64_t i = tool_begin(); i < n; i += tool_step()) store_up_to<float, kToolItems>(a, i, n - i, items);
}

BNB_KERNEL void BNB_THREADS(kToolThreads) count_up(void *a, int64_t n) {
  for (int64_t i = tool_begin(); i < n; i += tool_step()) {
    Items<float, kToolItems> items;
    BNB_UNROLL
    for (int j = 0; j < kToolItems; ++j) items.at[j] = float(i + j);
    store_up_to<float, kToolItems>(a, i, n - i, items);
  }
}

BNB_KERNEL void BNB_THREADS(kToolThreads) multiply_floats(MultiplyArgs args) {
  for (int64_t i = tool_begin(); i < args.n; i += tool_step()) {
    auto a = load_up_to<float, kToolItems>(args.a, i, args.n - i);
    const auto b = load_up_to<float, kToolItems>(args.b, i, args.n - i);
    BNB_UNROLL
    for (int j = 0; j < kToolItems; ++j) a.at[j] *= b.at[j];
    store_up_to<float, kToolItems>(args.a, i, args.n - i, a);
  }
}

}  // namespace

bnb_status nearest_code(const NearestCodeArgs &args, Queue queue) {
  return launch(find_nearest, tool_grid(queue, args.n, 8), queue, args);
}

bnb_status percentile_clipping(const PercentileClippingArgs &args, Queue queue) {
  const int64_t sections = ceil_div(args.n, kSumSection);
  const Workspace workspace(queue, size_t(sections) * sizeof(double));
  if (workspace.status() != BNB_OK) return workspace.status();
  double *const sums = static_cast<double *>(workspace.data());
  const bnb_status status = launch(sum_sections, {blocks_for(queue, sections, 8), kSectionThreads}, queue, args, sums);
  return status == BNB_OK ? launch(remember_sum, {1, kSectionThreads}, queue, args, sums) : status;
}

bnb_status histogram_add(const HistogramAddArgs &args, Queue queue) {
  return launch(add_to_cells, {blocks_for(queue, ceil_div(args.n, kToolThreads), 1), kToolThreads}, queue, args);
}

bnb_status fill(const FillArgs &args, Queue queue) {
  if (args.dtype == DType::kU8) return set_bytes(queue, args.a, args.byte, size_t(args.n));
  return launch(fill_floats, tool_grid(queue, args.n, 16), queue, args.a, args.n, args.value);
}

bnb_status arange(const ArangeArgs &args, Queue queue) { return launch(count_up, tool_grid(queue, args.n, 16), queue, args.a, args.n); }

bnb_status multiply(const MultiplyArgs &args, Queue queue) { return launch(multiply_floats, tool_grid(queue, args.n, 16), queue, args); }

}  // namespace bnb::gpu
