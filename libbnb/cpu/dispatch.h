// SPDX-License-Identifier: MIT
// Which kernel table operations use: the most capable one this CPU runs, capped by BNB_CPU_ISA or bnb_set_isa().
#ifndef BNB_CPU_DISPATCH_H_
#define BNB_CPU_DISPATCH_H_

#include "cpu/kernels.h"

namespace bnb::cpu {

struct Isa {
  const char *name;
  uint32_t required;  // Feature bits
  const Kernels *kernels;
};

const Isa *isa_at(int32_t index);  // from "reference" up, NULL past the last

// The table to use now; NULL after setting the error text if BNB_CPU_ISA names none.
const Kernels *active_kernels();

}  // namespace bnb::cpu

#endif  // BNB_CPU_DISPATCH_H_
