// SPDX-License-Identifier: MIT
// The table of the "reference" instruction set.
#include "reference/reference.h"

namespace bnb::reference {

extern const cpu::Kernels kKernels;
const cpu::Kernels kKernels = {
#define BNB_KERNEL(kernel, Args, units) &kernel,
#include "cpu/kernels.inc"
#undef BNB_KERNEL
#define BNB_PRODUCT(product, Method, methods) methods,
#include "cpu/products.inc"
#undef BNB_PRODUCT
};

}  // namespace bnb::reference
