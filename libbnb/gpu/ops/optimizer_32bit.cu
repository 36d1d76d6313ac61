// SPDX-License-Identifier: MIT
// Optimizer steps with states in fp32: one read and one write of everything, four neighbouring elements a thread, so that a warp
// asks for whole lines of every array. Limited by memory: an element of Adam in fp32 moves 28 bytes. EXACT.
#include "gpu/ops.h"
#include "gpu/optimizer_step.h"

namespace bnb::gpu {
namespace {

constexpr int kPerMultiprocessor = 32;  // blocks: more than there is room for, so that those that end early are followed

struct States32bit {
  struct Args {};
  struct Shared {};

  BNB_DEVICE_METHOD States32bit(const Args &, Shared &) {}
  BNB_DEVICE_METHOD void use(const StepTensor &) {}

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void read(const StepTensor &tensor, int64_t i, int count, StepState *states) const {
    using Is = Formula<kOptimizer>;
    const Items<float, kFour> first = load_some<float>(tensor.state1, i, count);
    Items<float, kFour> slow{}, second{};
    if constexpr (Is::kSlow) slow = load_some<float>(tensor.state1, tensor.n + i, count);
    if constexpr (Is::kSecond) second = load_some<float>(tensor.state2, i, count);
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) states[j] = {first.at[j], second.at[j], slow.at[j]};
  }

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void write(const StepTensor &tensor, int64_t i, int count, const StepState *states) const {
    using Is = Formula<kOptimizer>;
    Items<float, kFour> first, second, slow;
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      first.at[j] = states[j].first;
      second.at[j] = states[j].second;
      slow.at[j] = states[j].slow;
    }
    store_some<float>(tensor.state1, i, count, first);
    if constexpr (Is::kSlow) store_some<float>(tensor.state1, tensor.n + i, count, slow);
    if constexpr (Is::kSecond) store_some<float>(tensor.state2, i, count, second);
  }
};

template <bnb_optimizer kOptimizer>
BNB_KERNEL void BNB_THREADS(kStepThreads) update_32bit(StepBatch batch) {
  if (is_stopped(batch)) return;
  States32bit::Shared nothing;
  const States32bit all({}, nothing);
  bool found_nonfinite = false;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const Step<kOptimizer> step(batch, t);
    const int64_t first = (piece - batch.first_piece[t]) * kStepPiece + int64_t(thread_index()) * kFour;
    for (int row = 0; row < int(kStepPiece) / kRowElements; ++row) {
      const int64_t i = first + row * kRowElements;
      const int count = count_of_four(tensor.n, i);
      if (count == 0) break;
      const RawFour raw_g = load_four(tensor.g_dtype, tensor.g, i, count);
      const RawFour raw_p = load_four(tensor.p_dtype, tensor.p, i, count);
      StepState states[kFour];
      all.template read<kOptimizer>(tensor, i, count, states);
      float g[kFour], p[kFour], directions[kFour];
      widen_four(tensor.g_dtype, raw_g, g);
      widen_four(tensor.p_dtype, raw_p, p);
      const uint32_t moved = step(g, p, states, directions, &found_nonfinite);
      if (moved == 0) continue;
      step.move(directions, moved, p);
      all.template write<kOptimizer>(tensor, i, count, states);
      store_four(tensor.p_dtype, tensor.p, i, count, p);
    }
  }
  report(batch, found_nonfinite);
}

bnb_status update(const OptimizerUpdateArgs &args, const StepBatch &batch, const Queue &queue) {
  bnb_status status = BNB_OK;
  const Grid grid{blocks_for(queue, batch.first_piece[batch.count], kPerMultiprocessor), kStepThreads};
  with_optimizer(args.config.optimizer, [&](auto optimizer) {
    status = launch(update_32bit<decltype(optimizer)::value>, grid, queue, batch);
  });
  return status;
}

bnb_status measure(const OptimizerUpdateArgs &args, const StepBatch &batch, double *param_sums, double *direction_sums,
                   const Queue &queue) {
  bnb_status status = BNB_OK;
  const Grid grid{blocks_for(queue, batch.first_piece[batch.count], kPerMultiprocessor), kSectionThreads};
  with_optimizer(args.config.optimizer, [&](auto optimizer) {
    status = launch(measure_updates<decltype(optimizer)::value, States32bit>, grid, queue, batch, States32bit::Args{},
                    param_sums, direction_sums);
  });
  return status;
}

}  // namespace

bnb_status optimizer_update_32bit(const OptimizerUpdateArgs &args, Queue queue) {
  return update_tensors(args, queue, {measure, update});
}

}  // namespace bnb::gpu
