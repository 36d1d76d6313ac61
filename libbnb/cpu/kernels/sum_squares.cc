// SPDX-License-Identifier: MIT
// Sums of squares of float arrays, for norms. EXACT.
#include "cpu/kernels/sum_squares.h"
#include "cpu/kernels/kernels.h"

namespace bnb::cpu::BNB_ISA {

void sum_squares(const SumSquaresArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    const char *data = static_cast<const char *>(args.data);
    sum_sections(args.n, args.sums, begin, end, [&](int64_t first, int64_t last) {
      return sum_piece<Tag>(data + first * int64_t(sizeof(typename Tag::Storage)), last - first);
    });
  });
}

}  // namespace bnb::cpu::BNB_ISA
