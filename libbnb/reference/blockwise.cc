// SPDX-License-Identifier: MIT
// 8-bit blockwise quantization, written to be read.
#include "reference/reference.h"
#include "reference/normalise.h"

namespace bnb::reference {

void quantize_blockwise(const QuantizeBlockwiseKernelArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = load_float<decltype(tag)>(args.a, i) - args.subtract;
      const float normalised = normalise(x, load<float>(args.absmax, i / args.blocksize));
      int code = 0;  // the number of midpoints strictly below
      while (code < 255 && normalised > args.search->midpoints[code]) ++code;
      args.out[i] = uint8_t(code);
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
