// SPDX-License-Identifier: MIT
// The operations of this backend, one file of metal/ops/ for each family. Those that exist are rows of ops.inc.
#ifndef BNB_METAL_OPS_H_
#define BNB_METAL_OPS_H_

#include "metal/launch.h"

namespace bnb::metal {

#define BNB_OP(op, Args) bnb_status op(const Args &, Queue);
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP

}  // namespace bnb::metal

#endif  // BNB_METAL_OPS_H_
