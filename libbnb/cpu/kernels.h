// SPDX-License-Identifier: MIT
// The kernel table of one instruction set. Tables come from reference/ and, once per ISA, from cpu/kernels/.
#ifndef BNB_CPU_KERNELS_H_
#define BNB_CPU_KERNELS_H_

#include "core/ops.h"
#include "cpu/code_search.h"

namespace bnb::cpu {

struct QuantizeBlockwiseKernelArgs : QuantizeBlockwiseArgs {
  const CodeSearch *search;  // made from `code`, once per call
};

struct Kernels {
#define BNB_KERNEL(kernel, Args, units) void (*kernel)(const Args &, int64_t begin, int64_t end);
#include "cpu/kernels.inc"
#undef BNB_KERNEL
};

}  // namespace bnb::cpu

#endif  // BNB_CPU_KERNELS_H_
