// SPDX-License-Identifier: MIT
// The kernels of this instruction set by name: every file of this folder is compiled once per row of cpu/meson.build.
#ifndef BNB_CPU_KERNELS_KERNELS_H_
#define BNB_CPU_KERNELS_KERNELS_H_

#include "cpu/kernels.h"

namespace bnb::cpu::BNB_ISA {

#define BNB_KERNEL(kernel, Args, units) void kernel(const Args &args, int64_t begin, int64_t end);
#include "cpu/kernels.inc"
#undef BNB_KERNEL
#define BNB_PRODUCT(product, Method, methods) extern const Method methods[];
#include "cpu/products.inc"
#undef BNB_PRODUCT

}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_KERNELS_H_
