// SPDX-License-Identifier: MIT
// The operations of the CPU backend: each cuts its work into ranges for a kernel of the active table.
#ifndef BNB_CPU_OPS_OPS_H_
#define BNB_CPU_OPS_OPS_H_

#include "core/backend.h"
#include "cpu/dispatch.h"
#include "cpu/threads.h"

namespace bnb::cpu {

#define BNB_OP(op, Args) bnb_status op(const Args &, Queue);
#include "core/ops.inc"
#include "core/tool_ops.inc"
#undef BNB_OP

inline constexpr int64_t float_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Elements are handed out in whole blocks where those are small, and in pieces of this many where they are not.
inline constexpr int64_t kElementsPerPiece = 4096;

inline int64_t piece_of(int64_t blocksize) {
  return blocksize >= kElementsPerPiece ? kElementsPerPiece : kElementsPerPiece / blocksize * blocksize;
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_OPS_H_
