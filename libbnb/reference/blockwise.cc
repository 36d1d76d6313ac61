// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization, written to be read.
#include "reference/reference.h"
#include "reference/normalise.h"

namespace bnb::reference {

void quantize_blockwise(const cpu::QuantizeBlockwiseKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    const auto x = [&](int64_t i) { return load_float<decltype(tag)>(args.a, i) - args.subtract; };
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args.blocksize;
      const int64_t last = args.n - first < args.blocksize ? args.n : first + args.blocksize;
      const float absmax = absmax_of(first, last, x);
      store<float>(args.absmax, block, absmax);
      for (int64_t i = first; i < last; ++i) {
        const float normalised = normalise(x(i), absmax);
        int code = 0;  // the number of midpoints strictly below
        while (code < 255 && normalised > args.search->midpoints[code]) ++code;
        args.out[i] = uint8_t(code);
      }
    }
  });
}

void dequantize_blockwise(const DequantizeBlockwiseArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = load<float>(args.code, args.a[i]) * args.absmax.at(i / args.blocksize);
      store_float<decltype(tag)>(args.out, i, value);
    }
  });
}

}  // namespace bnb::reference
