// SPDX-License-Identifier: MIT
// mean[b] = mean |a| over block b, or the sum itself. EXACT: float64 in the order of core/sums.h.
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/sum_squares.h"

namespace bnb::cpu::BNB_ISA {
namespace {

template <typename Tag>
BNB_INLINE double sum_of_magnitudes(const char *p, int64_t count) {
  constexpr int64_t kPieceBytes = kSumPiece * int64_t(sizeof(typename Tag::Storage));
  double sum = 0.0;
  for (; count > kSumPiece; count -= kSumPiece, p += kPieceBytes) sum += fold(sum_lanes<Tag>(p, kSumPiece, Magnitudes{}));
  return sum + fold(sum_lanes<Tag>(p, count, Magnitudes{}));
}

}  // namespace

void absmean(const AbsmeanArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args.blocksize;
      const int64_t count = args.n - first < args.blocksize ? args.n - first : args.blocksize;
      const char *p = static_cast<const char *>(args.a) + first * int64_t(sizeof(typename Tag::Storage));
      const double sum = sum_of_magnitudes<Tag>(p, count);
      if (args.sums) args.sums[block] = sum;
      if (args.mean) bnb::store<float>(args.mean, block, mean_of(sum, count));
    }
  });
}

}  // namespace bnb::cpu::BNB_ISA
