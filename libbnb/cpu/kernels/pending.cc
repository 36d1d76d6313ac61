// SPDX-License-Identifier: MIT
// Kernels that have no vector version yet run the reference one. A kernel moves out of here into a file of its own.
#include "cpu/kernels/kernels.h"
#include "reference/reference.h"

namespace bnb::cpu::BNB_ISA {

#define BNB_PENDING(kernel, Args) \
  void kernel(const Args &args, int64_t begin, int64_t end) { reference::kernel(args, begin, end); }
BNB_PENDING(sum_squares, SumSquaresArgs)
BNB_PENDING(optimizer_update_32bit, OptimizerKernelArgs)
BNB_PENDING(optimizer_update_8bit, OptimizerKernelArgs)
BNB_PENDING(optimizer_measure_32bit, OptimizerKernelArgs)
BNB_PENDING(optimizer_measure_8bit, OptimizerKernelArgs)
#undef BNB_PENDING

}  // namespace bnb::cpu::BNB_ISA
