// SPDX-License-Identifier: MIT
// How a product runs: what its method packs, memory for the call and for each thread, and the threads.
#ifndef BNB_CPU_OPS_WORKSPACE_H_
#define BNB_CPU_OPS_WORKSPACE_H_

#include <atomic>

#include "core/ops.h"
#include "core/status.h"
#include "cpu/kernels.h"
#include "cpu/os.h"
#include "cpu/threads.h"

namespace bnb::cpu {

// What a call needs beside its arguments: packed operands, and scratch for each of its threads.
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

// Runs a plan that was made for `threads` of them: pack(packed, begin, end) over its pack_units, then
// multiply(packed, scratch, begin, end) over its units.
template <typename Pack, typename Multiply>
bnb_status run_product(const ProductPlan &plan, int threads, const Pack &pack, const Multiply &multiply) {
  Workspace workspace(plan.packed_bytes, plan.scratch_bytes, threads);
  if (!workspace.ok()) {
    return fail(BNB_ERROR_OUT_OF_MEMORY, "no memory for %lld bytes of packed operands and scratch",
                (long long)(plan.packed_bytes + plan.scratch_bytes * threads));
  }
  parallel_for(plan.pack_units, plan.pack_unit_cost, 1,
               [&](int64_t begin, int64_t end) { pack(workspace.packed(), begin, end); });
  parallel_for(plan.units, plan.unit_cost, 1, [&](int64_t begin, int64_t end) {
    const int part = workspace.take();
    multiply(workspace.packed(), workspace.scratch(part), begin, end);
    workspace.give_back(part);
  });
  return BNB_OK;
}

// Multiplies by the first of a table's methods that fits.
template <typename Args>
bnb_status multiply_by_method(const ProductMethod<Args> *method, const Args &args) {
  if (args.m == 0 || args.n == 0) return BNB_OK;
  while (!method->fits(args)) ++method;
  const int threads = bnb_get_num_threads();
  const ProductPlan plan = method->plan(args, threads);
  const auto with_memory = [&](char *packed, char *scratch) {
    ProductArgs<Args> own;
    static_cast<Args &>(own) = args;
    own.unit_columns = plan.unit_columns;
    own.packed = packed;
    own.scratch = scratch;
    return own;
  };
  return run_product(
      plan, threads,
      [&](char *packed, int64_t begin, int64_t end) { method->pack(with_memory(packed, nullptr), begin, end); },
      [&](char *packed, char *scratch, int64_t begin, int64_t end) {
        method->multiply(with_memory(packed, scratch), begin, end);
      });
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_WORKSPACE_H_
