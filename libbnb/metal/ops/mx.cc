// SPDX-License-Identifier: MIT
// MX and NVFP4 on Metal.
#include "metal/ops.h"
#include "metal/quantize.h"

namespace bnb::metal {
namespace {

const char *quantizer(bnb_quant_type quant_type) {
  switch (quant_type) {
    case BNB_MXFP8_E4M3FN: return "quantize_mxfp8_e4m3fn";
    case BNB_MXFP8_E5M2: return "quantize_mxfp8_e5m2";
    case BNB_MXFP4: return "quantize_mxfp4";
    default: return "quantize_nvfp4";
  }
}
const char *dequantizer(bnb_quant_type quant_type) {
  switch (quant_type) {
    case BNB_MXFP8_E4M3FN: return "dequantize_mxfp8_e4m3fn";
    case BNB_MXFP8_E5M2: return "dequantize_mxfp8_e5m2";
    default: return "dequantize_mxfp4";
  }
}

void write_tensor_scale(Commands &commands, const Queue &queue, const QuantizeMxArgs &args) {
  if (args.n == 0) return clear_bytes(commands, args.tensor_scale, sizeof(float));
  const Workspace absmax(queue, sizeof(uint32_t));
  measure_absmax(commands, {"mx", "", args.dtype, args.a, args.n, args.n, nullptr, nullptr, nullptr, nullptr}, absmax);
  commands.run({"mx", "tensor_scale_of"}, {1, kSimdWidth}, int64_t(0), absmax, args.tensor_scale);
}

}  // namespace

bnb_status quantize_mx(const QuantizeMxArgs &args, Queue queue) {
  Commands commands(queue);
  if (args.tensor_scale) write_tensor_scale(commands, queue, args);
  kernels::MxArgs kernel_args{};
  kernel_args.blocks.n = args.n;
  kernel_args.blocks.aligned_in = commands.aligned(16, args.a);
  kernel_args.blocks.aligned_out = commands.aligned(16, args.out);
  kernel_args.rule = args.rule;
  kernel_args.has_tensor_scale = args.tensor_scale != nullptr;
  const Grid grid{commands.groups_for(ceil_div(args.n, kTile)), kQuantizeThreads};
  commands.run({"mx", quantizer(args.quant_type), args.dtype}, grid, kernel_args, args.a, args.out, args.scale, args.tensor_scale);
  return commands.commit();
}

bnb_status dequantize_mx(const DequantizeMxArgs &args, Queue queue) {
  Commands commands(queue);
  dequantize_blocks(commands, {"mx", dequantizer(args.quant_type), args.dtype, args.a, args.scales, args.n, args.blocksize, args.out,
                               nullptr});
  return commands.commit();
}

}  // namespace bnb::metal
