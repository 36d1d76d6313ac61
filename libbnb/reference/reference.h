// SPDX-License-Identifier: MIT
// The plain version of every kernel: the oracle of the tests, and what runs where no vector table does.
#ifndef BNB_REFERENCE_REFERENCE_H_
#define BNB_REFERENCE_REFERENCE_H_

#include "cpu/kernels.h"

namespace bnb::reference {

using cpu::AbsmaxArgs;
using cpu::AbsmeanArgs;
using cpu::GemmCooKernelArgs;
using cpu::OptimizerKernelArgs;
using cpu::QuantizeBlockwiseKernelArgs;
using cpu::SumSquaresArgs;

#define BNB_KERNEL(kernel, Args, units) void kernel(const Args &, int64_t begin, int64_t end);
#include "cpu/kernels.inc"
#undef BNB_KERNEL
#define BNB_PRODUCT(product, Method, methods) extern const cpu::Method methods[];
#include "cpu/products.inc"
#undef BNB_PRODUCT

}  // namespace bnb::reference

#endif  // BNB_REFERENCE_REFERENCE_H_
