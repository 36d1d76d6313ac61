// SPDX-License-Identifier: MIT
// Products with quantized weights on the CPU: the first method of the table that fits, its memory, its threads.
#include <atomic>
#include <cstring>

#include "core/status.h"
#include "cpu/ops/ops.h"
#include "cpu/os.h"

namespace bnb::cpu {
namespace {

// What a call needs beside its arguments: the packed activations, and scratch for each of its threads.
class Workspace {
 public:
  Workspace(int64_t packed_bytes, int64_t scratch_bytes, int threads)
      : scratch_offset_(padded(packed_bytes)), scratch_bytes_(padded(scratch_bytes)), threads_(threads) {
    const int64_t bytes = scratch_offset_ + scratch_bytes_ * threads;
    if (bytes > 0) data_ = static_cast<char *>(allocate_pages(size_t(bytes)));
    ok_ = bytes == 0 || data_;
  }
  ~Workspace() {
    if (data_) release_pages(data_);
  }
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;

  bool ok() const { return ok_; }
  char *packed() const { return data_; }

  // A part that no other thread uses until it is given back. There are as many as threads may come.
  int take() {
    for (int i = 0;; i = (i + 1) % threads_) {
      if (!used_[i].exchange(true, std::memory_order_acquire)) return i;
    }
  }
  void give_back(int part) { used_[part].store(false, std::memory_order_release); }
  char *scratch(int part) const { return scratch_bytes_ ? data_ + scratch_offset_ + part * scratch_bytes_ : nullptr; }

 private:
  static int64_t padded(int64_t bytes) { return ceil_div(bytes, 4096) * 4096; }

  int64_t scratch_offset_, scratch_bytes_;
  int threads_;
  char *data_ = nullptr;
  bool ok_;
  std::atomic<bool> used_[kMaxThreads] = {};
};

}  // namespace

bnb_status gemm_4bit(const Gemm4bitArgs &args, Queue) {
  const Kernels *kernels = active_kernels();
  if (!kernels) return BNB_ERROR_INVALID_ARGUMENT;
  if (args.m == 0 || args.n == 0) return BNB_OK;
  const Gemm4bitMethod *method = kernels->gemm_4bit;
  while (!method->fits(args)) ++method;
  const int threads = bnb_get_num_threads();
  const Gemm4bitPlan plan = method->plan(args, threads);

  Workspace workspace(plan.packed_bytes, plan.scratch_bytes, threads);
  if (!workspace.ok()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "cgemm_4bit: no memory for %lld bytes of packed activations",
                (long long)plan.packed_bytes);
  }
  Gemm4bitKernelArgs shared;
  static_cast<Gemm4bitArgs &>(shared) = args;
  shared.unit_columns = plan.unit_columns;
  shared.packed = workspace.packed();
  shared.scratch = nullptr;
  if (method->pack) {
    parallel_for(plan.pack_units, plan.pack_unit_cost, 1,
                 [&](int64_t begin, int64_t end) { method->pack(shared, begin, end); });
  }
  parallel_for(plan.units, plan.unit_cost, 1, [&](int64_t begin, int64_t end) {
    const int part = workspace.take();
    Gemm4bitKernelArgs own = shared;
    own.scratch = workspace.scratch(part);
    method->multiply(own, begin, end);
    workspace.give_back(part);
  });
  return BNB_OK;
}

}  // namespace bnb::cpu
