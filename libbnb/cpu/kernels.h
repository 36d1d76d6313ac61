// SPDX-License-Identifier: MIT
// The kernel table of one instruction set. Tables come from reference/ and, once per ISA, from cpu/kernels/.
#ifndef BNB_CPU_KERNELS_H_
#define BNB_CPU_KERNELS_H_

#include "core/ops.h"
#include "cpu/code_search.h"

namespace bnb::cpu {

// The first half of every blockwise quantizer: the scale of each block. The second half turns elements into codes, so that one
// block may be the work of several threads.
struct AbsmaxArgs {
  DType dtype;           // of a: a float dtype
  const void *a;         // [n]
  int64_t n, blocksize;
  float subtract;        // taken off every element first
  float divisor;         // absmax[b] = max |a - subtract| / divisor; 1 for most formats
  void *absmax;          // fp32 [nb]
};

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
