// SPDX-License-Identifier: MIT
// An optimizer's list of tensors, cut into batches that fit the parameters of a kernel.
#ifndef BNB_GPU_OPTIMIZER_BATCH_H_
#define BNB_GPU_OPTIMIZER_BATCH_H_

#include "core/backend.h"

namespace bnb::gpu {

constexpr int kStepThreads = 256;        // of a block
constexpr int64_t kStepPiece = 2048;     // elements that a block takes at a time
constexpr int kStepTensors = 28;         // of a batch
constexpr int kStepSets = 4;             // of constants in a batch: tensors may be at different steps

struct StepTensor {
  const void *g;
  void *p, *state1, *state2, *absmax1, *absmax2;
  const void *qmap1, *qmap2;
  void *unorm;
  double param_norm;
  int64_t n, blocks;
  int64_t first_word;  // 8-bit, unusual block sizes: where the tensor's part of a workspace begins
  int32_t set;
  DType g_dtype, p_dtype;
};

struct StepBatch {
  StepTensor tensors[kStepTensors];
  int64_t first_piece[kStepTensors + 1];  // of each tensor, in pieces or sections of the batch
  OptimizerNumbers sets[kStepSets];
  const void *scale;            // fp32 [1] or NULL
  uint32_t *report;             // found_inf or NULL: becomes 1 where a gradient is NaN or infinite
  const uint32_t *stop;         // found_inf or NULL: if it is not 0, nothing is done
  const double *update_scales;  // [count], what max_unorm makes of the updates, or NULL
  int count;
  bool skip_zeros, skip_nonfinite;
};
static_assert(sizeof(StepBatch) <= 3900, "parameters of a kernel are at most 4 KB");

// Numbers pieces of so many elements in batch.first_piece, and returns how many there are.
int64_t count_pieces(StepBatch *batch, int64_t elements);

// What is different about states in fp32 and in 8 bits.
struct StepKernels {
  // The sums of squares of parameters (where no norm is given) and of directions; batch.first_piece counts sections.
  bnb_status (*measure)(const OptimizerUpdateArgs &, const StepBatch &, double *param_sums, double *direction_sums,
                        const Queue &);
  bnb_status (*update)(const OptimizerUpdateArgs &, const StepBatch &, const Queue &);  // first_piece: of kStepPiece
};

bnb_status update_tensors(const OptimizerUpdateArgs &args, const Queue &queue, const StepKernels &kernels);

}  // namespace bnb::gpu

#endif  // BNB_GPU_OPTIMIZER_BATCH_H_
