// SPDX-License-Identifier: MIT
// The scales of blocks, written to be read.
#include "reference/normalise.h"
#include "reference/reference.h"

namespace bnb::reference {

void absmax(const AbsmaxArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const auto x = [&](int64_t i) { return load_float<decltype(tag)>(args.a, i) - args.subtract; };
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args.blocksize;
      const int64_t last = args.n - first < args.blocksize ? args.n : first + args.blocksize;
      store<float>(args.absmax, block, absmax_of(first, last, x) / args.divisor);
    }
  });
}

}  // namespace bnb::reference
