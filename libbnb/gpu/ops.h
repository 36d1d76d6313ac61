// SPDX-License-Identifier: MIT
// The operations of a GPU backend, one file of gpu/ops/ for each family.
#ifndef BNB_GPU_OPS_H_
#define BNB_GPU_OPS_H_

#include "core/backend.h"

namespace bnb::gpu {

#define BNB_OP(op, Args) bnb_status op(const Args &, Queue);
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP

inline constexpr int64_t float_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

}  // namespace bnb::gpu

#endif  // BNB_GPU_OPS_H_
