// SPDX-License-Identifier: MIT
// Norms of lists of tensors on Metal.
#include "core/sums.h"
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {

bnb_status measure_norms(const MeasureNormsArgs &args, Queue queue) {
  Commands commands(queue);
  int64_t sections = 0;
  for (int64_t i = 0; i < args.count; ++i) {
    const int64_t of_tensor = ceil_div(args.tensors[i].n, kSumSection);
    sections = of_tensor > sections ? of_tensor : sections;
  }
  // Sections of one tensor at a time: launches run in order. Then the tensors' sums, and the list's.
  const Workspace words(queue, size_t(sections + args.count + 1) * sizeof(uint64_t));
  commands.need(words.status());
  const Place section_sums{words.buffer(), 0}, tensor_sums{words.buffer(), uint64_t(sections) * sizeof(uint64_t)};
  for (int64_t i = 0; i < args.count; ++i) {
    const FloatArray &tensor = args.tensors[i];
    kernels::NormArgs kernel_args{};
    kernel_args.n = tensor.n;
    kernel_args.sums = ceil_div(tensor.n, kSumSection);
    kernel_args.index = i;
    kernel_args.aligned = commands.aligned(tensor.dtype == DType::kF32 ? 4 : 2, tensor.data);
    kernel_args.has_norm = args.norms != nullptr;
    kernel_args.wide = args.norms_dtype == DType::kF64;
    commands.run({"norms", "sum_squares", tensor.dtype}, {commands.groups_for(kernel_args.sums), kQuantizeThreads}, kernel_args,
                 tensor.data, section_sums);
    const Place sum{words.buffer(), tensor_sums.offset + uint64_t(i) * sizeof(uint64_t)};
    const void *none = nullptr;
    commands.run({"norms", "finish_norm"}, {1, kSimdWidth}, kernel_args, section_sums, sum, args.norms, none);
  }
  kernels::NormArgs kernel_args{};
  kernel_args.sums = args.count;
  kernel_args.has_norm = args.total != nullptr;
  kernel_args.wide = args.total_dtype == DType::kF64;
  kernel_args.has_found_inf = args.found_inf != nullptr;
  const Place total{words.buffer(), tensor_sums.offset + uint64_t(args.count) * sizeof(uint64_t)};
  commands.run({"norms", "finish_norm"}, {1, kSimdWidth}, kernel_args, tensor_sums, total, args.total, args.found_inf);
  return commands.commit();
}

}  // namespace bnb::metal
