// SPDX-License-Identifier: MIT
// The table of this instruction set.
#include "cpu/kernels/kernels.h"

#if defined(BNB_BASE_ISA)  // all kernels but the products are those of another instruction set
namespace bnb::cpu::BNB_BASE_ISA {
#define BNB_KERNEL(kernel, Args, units) void kernel(const Args &, int64_t begin, int64_t end);
#include "cpu/kernels.inc"
#undef BNB_KERNEL
}  // namespace bnb::cpu::BNB_BASE_ISA
#define BNB_KERNELS_OF BNB_BASE_ISA
#else
#define BNB_KERNELS_OF BNB_ISA
#endif

namespace bnb::cpu::BNB_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {
#define BNB_KERNEL(kernel, Args, units) &BNB_KERNELS_OF::kernel,
#include "cpu/kernels.inc"
#undef BNB_KERNEL
#define BNB_PRODUCT(product, Method, methods) methods,
#include "cpu/products.inc"
#undef BNB_PRODUCT
};

}  // namespace bnb::cpu::BNB_ISA
