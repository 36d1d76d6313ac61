// SPDX-License-Identifier: MIT
// The table of this instruction set.
#include "cpu/kernels/kernels.h"

namespace bnb::cpu::BNB_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {
#define BNB_KERNEL(kernel, Args, units) &kernel,
#include "cpu/kernels.inc"
#undef BNB_KERNEL
    kGemm4bitMethods,
};

}  // namespace bnb::cpu::BNB_ISA
