// SPDX-License-Identifier: MIT
// What a step does beside the update itself: whether it is skipped, and how far max_unorm lets it go. The host reads nothing of the
// device: found_inf and the norms stay there, and the kernels of the update look at them.
#include "gpu/optimizer_step.h"

namespace bnb::gpu {
namespace {

BNB_KERNEL void BNB_THREADS(kStepThreads) look_for_nonfinite(StepBatch batch, uint32_t *found_inf) {
  BNB_SHARED uint32_t before;
  if (thread_index() == 0) before = atomic_load(found_inf);
  barrier();
  if (formats::float_from_bits(before) != 0.0f) return;  // what is not 0 stays what it is
  bool found = false;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const int64_t first = (piece - batch.first_piece[t]) * kStepPiece + int64_t(thread_index()) * kFour;
    constexpr int kRows = int(kStepPiece) / kRowElements;
    RawFour raw[kRows];
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * kRowElements;
      raw[row] = load_four(tensor.g_dtype, tensor.g, i, count_of_four(tensor.n, i));
    }
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      float g[kFour];
      widen_four(tensor.g_dtype, raw[row], g);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) found = found || is_nonfinite(g[j]);
    }
  }
  if (found && atomic_load(found_inf) != kOneBits) atomic_store(found_inf, kOneBits);
}

// From the sums of sections to what each update is multiplied by: a block per tensor.
BNB_KERNEL void BNB_THREADS(kStepThreads)
    settle_updates(StepBatch batch, const double *param_sums, const double *direction_sums, double max_unorm, double *scales) {
  BNB_SHARED double staged[kStepThreads];
  if (is_stopped(batch)) return;
  for (int t = int(grid_index()); t < batch.count; t += int(grid_count())) {
    const StepTensor &tensor = batch.tensors[t];
    const int64_t begin = batch.first_piece[t], sections = batch.first_piece[t + 1] - begin;
    double param_norm = tensor.param_norm;
    if (!(param_norm > 0.0)) param_norm = sqrt(ordered_sum(param_sums + begin, sections, staged));
    const double root = sqrt(ordered_sum(direction_sums + begin, sections, staged));
    if (thread_index() != 0) continue;
    const double norm = update_norm(batch.sets[tensor.set], root);
    scales[t] = update_scale(max_unorm, param_norm, norm);
    if (tensor.unorm) store<float>(tensor.unorm, 0, float(norm));
  }
}

// found_inf where atomics can get at it.
class FoundInf {
 public:
  FoundInf(const Queue &queue, void *found_inf)
      : queue_(queue), given_(found_inf), aligned_(reinterpret_cast<uintptr_t>(found_inf) % sizeof(uint32_t) == 0),
        workspace_(queue, aligned_ ? 0 : sizeof(uint32_t)), status_(workspace_.status()) {
    if (!aligned_ && status_ == BNB_OK) status_ = copy_bytes(queue, workspace_.data(), given_, sizeof(uint32_t));
  }
  bnb_status status() const { return status_; }
  uint32_t *word() const { return static_cast<uint32_t *>(aligned_ ? given_ : workspace_.data()); }
  bnb_status give_back() const {
    return aligned_ ? BNB_OK : copy_bytes(queue_, given_, workspace_.data(), sizeof(uint32_t));
  }

 private:
  const Queue &queue_;
  void *given_;
  bool aligned_;
  Workspace workspace_;
  bnb_status status_;
};

// The batches of a list, one after the other.
class Batches {
 public:
  explicit Batches(const OptimizerUpdateArgs &args) : args_(args) {}

  bool next(StepBatch *batch) {
    if (next_ == args_.count) return false;
    batch->count = 0;
    int sets = 0;
    for (; next_ < args_.count && batch->count < kStepTensors; ++next_) {
      const OptimizerTensor &tensor = args_.tensors[next_];
      int set = 0;
      while (set < sets && steps_[set] != tensor.step) ++set;
      if (set == kStepSets) break;
      if (set == sets) {
        if (numbers_step_ != tensor.step) numbers_ = make_numbers(args_.config, tensor.step);
        numbers_step_ = tensor.step;
        steps_[sets] = tensor.step;
        batch->sets[sets++] = numbers_;
      }
      batch->tensors[batch->count++] = describe(tensor, set);
    }
    return true;
  }

 private:
  StepTensor describe(const OptimizerTensor &tensor, int set) const {
    StepTensor described;
    described.g = tensor.g;
    described.p = tensor.p;
    described.state1 = tensor.state1;
    described.state2 = tensor.state2;
    described.absmax1 = tensor.absmax1;
    described.absmax2 = tensor.absmax2;
    described.qmap1 = tensor.qmap1;
    described.qmap2 = tensor.qmap2;
    described.unorm = tensor.unorm;
    described.param_norm = tensor.param_norm;
    described.n = tensor.n;
    described.blocks = args_.blocksize ? block_count(tensor.n, args_.blocksize) : 0;
    described.first_word = 0;
    described.set = set;
    described.g_dtype = tensor.g_dtype;
    described.p_dtype = tensor.p_dtype;
    return described;
  }

  const OptimizerUpdateArgs &args_;
  int64_t next_ = 0;
  int64_t steps_[kStepSets] = {};
  int64_t numbers_step_ = 0;  // steps begin at 1
  OptimizerNumbers numbers_{};
};

bnb_status update_within_norms(const OptimizerUpdateArgs &args, StepBatch *batch, const Queue &queue,
                               const StepKernels &kernels) {
  const int64_t sections = count_pieces(batch, kSumSection);
  const Workspace workspace(queue, size_t(2 * sections + batch->count) * sizeof(double));
  if (workspace.status() != BNB_OK) return workspace.status();
  double *param_sums = static_cast<double *>(workspace.data()), *direction_sums = param_sums + sections;
  double *scales = direction_sums + sections;
  bnb_status status = kernels.measure(args, *batch, param_sums, direction_sums, queue);
  if (status == BNB_OK) {
    status = launch(settle_updates, {batch->count, kStepThreads}, queue, *batch, param_sums, direction_sums,
                    args.config.max_unorm, scales);
  }
  if (status != BNB_OK) return status;
  batch->update_scales = scales;
  count_pieces(batch, kStepPiece);
  return kernels.update(args, *batch, queue);
}

}  // namespace

int64_t count_pieces(StepBatch *batch, int64_t elements) {
  batch->first_piece[0] = 0;
  for (int t = 0; t < batch->count; ++t) {
    batch->first_piece[t + 1] = batch->first_piece[t] + ceil_div(batch->tensors[t].n, elements);
  }
  return batch->first_piece[batch->count];
}

bnb_status update_tensors(const OptimizerUpdateArgs &args, const Queue &queue, const StepKernels &kernels) {
  const FoundInf found_inf(queue, args.found_inf);
  bnb_status status = found_inf.status();
  const bool may_skip = args.config.nonfinite == BNB_NONFINITE_SKIP_STEP;
  StepBatch batch{};
  if (may_skip) {
    Batches batches(args);
    while (status == BNB_OK && batches.next(&batch)) {
      const Grid grid{blocks_for(queue, count_pieces(&batch, kStepPiece), 16), kStepThreads};
      status = launch(look_for_nonfinite, grid, queue, batch, found_inf.word());
    }
  }
  batch.scale = args.scale;
  batch.report = may_skip ? nullptr : found_inf.word();
  batch.stop = may_skip ? found_inf.word() : nullptr;
  batch.skip_zeros = args.config.skip_zeros != 0;
  batch.skip_nonfinite = args.config.nonfinite == BNB_NONFINITE_SKIP_ELEMENT;
  Batches batches(args);
  while (status == BNB_OK && batches.next(&batch)) {
    batch.update_scales = nullptr;
    if (args.config.max_unorm > 0.0) {
      status = update_within_norms(args, &batch, queue, kernels);
    } else {
      count_pieces(&batch, kStepPiece);
      status = kernels.update(args, batch, queue);
    }
  }
  return status == BNB_OK ? found_inf.give_back() : status;
}

}  // namespace bnb::gpu
