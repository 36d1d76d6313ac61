// SPDX-License-Identifier: MIT
// The scale of one block that is too large for one thread.
#include "cpu/ops/quantize.h"

#include "cpu/float_environment.h"
#include "formats/portable.h"

namespace bnb::cpu {

void large_absmax(const Kernels &kernels, const AbsmaxArgs &args, int64_t block) {
  constexpr int64_t kPieces = 256;  // whose maxima wait on the stack
  const int64_t first = block * args.blocksize;
  const int64_t count = args.n - first < args.blocksize ? args.n - first : args.blocksize;

  AbsmaxArgs pieces = args;
  float maxima[kPieces];
  pieces.a = static_cast<const char *>(args.a) + first * float_size(args.dtype);
  pieces.n = count;
  pieces.blocksize = ceil_div(ceil_div(count, kPieces), kElementsPerPiece) * kElementsPerPiece;
  pieces.absmax = maxima;
  const int64_t piece_count = block_count(count, pieces.blocksize);
  parallel_for(piece_count, pieces.blocksize * float_size(args.dtype), 1,
               [&](int64_t begin, int64_t end) { kernels.absmax(pieces, begin, end); });

  // Without a sign, floats are ordered as their bits are, and NaN is above infinity.
  uint32_t largest = 0;
  for (int64_t i = 0; i < piece_count; ++i) {
    const uint32_t bits = formats::bits_from_float(maxima[i]);
    if (bits > largest) largest = bits;
  }
  store<uint32_t>(args.absmax, block, largest);
}

void large_absmean(const Kernels &kernels, const AbsmeanArgs &args, int64_t block) {
  constexpr int64_t kAtOnce = 512;  // sections whose sums wait on the stack
  const DefaultFloatEnvironment environment;
  const int64_t first = block * args.blocksize;
  const int64_t count = args.n - first < args.blocksize ? args.n - first : args.blocksize;

  double sum = 0.0, sums[kAtOnce];
  for (int64_t start = 0; start < count; start += kAtOnce * kSumSection) {
    AbsmeanArgs sections = args;
    sections.a = static_cast<const char *>(args.a) + (first + start) * float_size(args.dtype);
    sections.n = count - start < kAtOnce * kSumSection ? count - start : kAtOnce * kSumSection;
    sections.blocksize = kSumSection;
    sections.mean = nullptr;
    sections.sums = sums;
    const int64_t section_count = block_count(sections.n, kSumSection);
    parallel_for(section_count, kSumSection * float_size(args.dtype), 1,
                 [&](int64_t begin, int64_t end) { kernels.absmean(sections, begin, end); });
    for (int64_t i = 0; i < section_count; ++i) sum += sums[i];
  }
  store<float>(args.mean, block, mean_of(sum, count));
}

}  // namespace bnb::cpu
