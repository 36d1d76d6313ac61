// SPDX-License-Identifier: MIT
// How much goes through both halves of a quantizer (scales, then codes) before the next of it is touched.
#ifndef BNB_CPU_TOGETHER_H_
#define BNB_CPU_TOGETHER_H_

#include "core/ops.h"

namespace bnb::cpu {

// Elements that stay in the first-level cache in between.
constexpr int64_t kElementsTogether = 4096;

// The same in rows. With codes by column, too, some more: the scales of the columns are computed once for all of them.
BNB_INLINE int64_t rows_together(const QuantizeInt8Args &args) {
  const int64_t elements = args.out_col ? 4 * kElementsTogether : kElementsTogether;
  return args.cols > 0 && args.cols < elements ? elements / args.cols : 1;
}

}  // namespace bnb::cpu

#endif  // BNB_CPU_TOGETHER_H_
