// SPDX-License-Identifier: MIT
// More than 2^32 elements (--slow): zeros everywhere but in windows at the start, at 2^31, at 2^32 and at the end,
// whose results must be those of the reference on the window alone. Sparse arrays make that cost address space, not
// memory.
#include <memory>

#include "codes.h"
#include "sizes.h"
#include "sparse.h"
#include "suite.h"

using namespace conformance;

namespace {

constexpr int64_t kBlock = 4096;
constexpr int64_t kWindow = 64 * kBlock;
constexpr int64_t kElements = (int64_t(1) << 32) + 3 * kWindow;  // and a tail, where the shape allows one

struct Extent {
  int64_t begin, end;  // elements
  int64_t n() const { return end - begin; }
};

// All that the operations differ in. Each maps n elements and one scale per block to n elements, or n elements to those.
struct Op {
  const char *name;
  bool quantizes;    // the scales are an output
  bool rows;         // tensors are matrices with a row per block
  DLDataType codes;  // dtype of the quantized side; the other is bfloat16
  int64_t codes_a_byte;
  uint8_t zero;  // byte of quantized zeros
  bnb_status (*call)(DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *code);
  int64_t blocksize = kBlock, tail = 1001;
  DLDataType scales = kF32;

  int64_t n() const { return rows ? kElements : kElements + tail; }
  int64_t scale_bytes(int64_t n) const { return ceil_div(n, blocksize) * size_of(scales); }
  int64_t bytes(bool input, int64_t n) const { return input == quantizes ? 2 * n : ceil_div(n, codes_a_byte); }
  DLDataType dtype(bool input) const { return input == quantizes ? kBF16 : codes; }
  std::vector<int64_t> shape(bool input, int64_t n) const {
    if (rows) return {n / kBlock, kBlock};
    return {input == quantizes ? n : ceil_div(n, codes_a_byte)};
  }
};

constexpr int64_t kMxBlock = 32;

constexpr Op kOps[] = {
    {"quantize_blockwise", true, false, kU8, 1, 127,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *code) {
       return cquantize_blockwise(in, code, kBlock, out, scale, nullptr);
     }},
    {"dequantize_blockwise", false, false, kU8, 1, 127,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *code) {
       return cdequantize_blockwise(in, scale, code, kBlock, out, nullptr);
     }},
    {"quantize_4bit", true, false, kU8, 2, 0x77,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cquantize_4bit(in, BNB_NF4, kBlock, out, scale, nullptr);
     }},
    {"dequantize_4bit", false, false, kU8, 2, 0x77,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cdequantize_4bit(in, scale, nullptr, BNB_NF4, kBlock, out, nullptr);
     }},
    {"quantize_fp8", true, false, kU8, 1, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cquantize_fp8(in, BNB_FP8_E4M3FN, kBlock, out, scale, nullptr);
     }},
    {"dequantize_fp8", false, false, kU8, 1, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cdequantize_fp8(in, scale, BNB_FP8_E4M3FN, kBlock, out, nullptr);
     }},
    {"quantize_ternary", true, false, kU8, 4, 0x55,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cquantize_ternary(in, BNB_TERNARY, BNB_ABSMEAN, kBlock, out, scale, nullptr);
     }},
    {"dequantize_ternary", false, false, kU8, 4, 0x55,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cdequantize_ternary(in, scale, BNB_TERNARY, kBlock, out, nullptr);
     }},
    {"quantize_int8_vectorwise", true, true, kI8, 1, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cquantize_int8_vectorwise(in, 0.0f, out, scale, nullptr, nullptr);
     }},
    {"dequantize_int8_vectorwise", false, true, kI8, 1, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cdequantize_int8_vectorwise(in, scale, out, nullptr);
     }},
    {"quantize_mx", true, false, kU8, 2, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cquantize_mx(in, BNB_MXFP4, BNB_MX_RCEIL, out, scale, nullptr, nullptr);
     },
     kMxBlock, 31 * kMxBlock, kU8},
    {"dequantize_mx", false, false, kU8, 2, 0,
     [](DLTensor *in, DLTensor *scale, DLTensor *out, DLTensor *) {
       return cdequantize_mx(in, scale, nullptr, BNB_MXFP4, out, nullptr);
     },
     kMxBlock, 31 * kMxBlock, kU8},
};

std::vector<Extent> windows(const Op &op) {
  const int64_t two31 = int64_t(1) << 31, two32 = int64_t(1) << 32;
  return {{0, kWindow},
          {two31 - kWindow, two31 + kWindow},
          {two32 - kWindow, two32 + kWindow},
          {kElements - kWindow, op.n()}};
}

Bytes window_content(const Op &op, Extent window, Random &random) {
  if (!op.quantizes) return random_bytes(op.bytes(true, window.n()), random);
  return filled(Fill::kMixed, kBF16, window.n(), kBlock, {}, random);
}

// Scales for a window; and one of 1, which is what all others are.
Bytes window_scales(const Op &op, Extent window, Random &random) {
  const int64_t blocks = ceil_div(window.n(), op.blocksize);
  return op.scales.bits == 8 ? random_bytes(blocks, random) : bytes_of(scales(blocks, random));
}
Bytes scale_of_one(const Op &op) { return op.scales.bits == 8 ? Bytes{127} : bytes_of(std::vector<float>{1.0f}); }

// The operation on one window, for the reference.
Call window_call(const Op &op, Extent window, Bytes content, Bytes scale_values, const std::vector<float> &code_values) {
  Call call;
  const int64_t blocks = ceil_div(window.n(), op.blocksize);
  const int in = call.input("in", op.dtype(true), op.shape(true, window.n()), std::move(content));
  const int scale =
      op.quantizes ? call.output("scale", op.scales, {blocks}) : call.input("scale", op.scales, {blocks}, std::move(scale_values));
  const int code = call.input("code", kF32, {256}, bytes_of(code_values));
  const int out = call.output("out", op.dtype(false), op.shape(false, window.n()));
  call.invoke = [=](DLTensor *const *t) { return op.call(t[in], t[scale], t[out], t[code]); };
  return call;
}

// Host memory on a device and back.
class OnDevice {
 public:
  OnDevice(DLDevice device, void *host, int64_t bytes) : device_(device), host_(host), bytes_(size_t(bytes)) {
    if (device.device_type == kDLCPU) {
      data_ = host;
    } else {
      ok_ = bnb_allocate(device, bytes_, &data_) == BNB_OK &&
            bnb_copy(device, data_, {kDLCPU, 0}, host, bytes_, nullptr) == BNB_OK;
    }
  }
  ~OnDevice() {
    if (data_ != host_) bnb_free(device_, data_);
  }
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;

  bool ok() const { return ok_; }
  bool fetch() { return data_ == host_ || bnb_copy({kDLCPU, 0}, host_, device_, data_, bytes_, nullptr) == BNB_OK; }
  DLTensor tensor(DLDataType dtype, std::vector<int64_t> *shape) {
    return {data_, device_, int32_t(shape->size()), dtype, shape->data(), nullptr, 0};
  }

 private:
  DLDevice device_;
  void *host_, *data_ = nullptr;
  size_t bytes_;
  bool ok_ = true;
};

// Runs the operation over all of it. The arrays are on the host.
std::string run_whole(const Op &op, const Target &target, uint8_t *in, uint8_t *out, Bytes *scale,
                      std::vector<float> code_values) {
  OnDevice device_in(target.device, in, op.bytes(true, op.n())),
      device_out(target.device, out, op.bytes(false, op.n()));
  OnDevice device_scale(target.device, scale->data(), int64_t(scale->size()));
  OnDevice device_code(target.device, code_values.data(), 1024);
  if (!device_in.ok() || !device_out.ok() || !device_scale.ok() || !device_code.ok()) return bnb_last_error();
  std::vector<int64_t> in_shape = op.shape(true, op.n()), out_shape = op.shape(false, op.n());
  std::vector<int64_t> scale_shape{ceil_div(op.n(), op.blocksize)}, code_shape{256};
  DLTensor in_tensor = device_in.tensor(op.dtype(true), &in_shape),
           out_tensor = device_out.tensor(op.dtype(false), &out_shape);
  DLTensor scale_tensor = device_scale.tensor(op.scales, &scale_shape), code_tensor = device_code.tensor(kF32, &code_shape);
  if (target.isa && bnb_set_isa(target.isa) != BNB_OK) return bnb_last_error();
  bnb_set_num_threads(0);
  const bnb_status status = op.call(&in_tensor, &scale_tensor, &out_tensor, &code_tensor);
  if (status == BNB_ERROR_UNSUPPORTED) return std::string("UNSUPPORTED: ") + bnb_last_error();
  if (status != BNB_OK || bnb_synchronize(target.device, nullptr) != BNB_OK) return bnb_last_error();
  if (!device_out.fetch() || !device_scale.fetch()) return bnb_last_error();
  return "";
}

std::string check_large(const Op &op, const Target &target, const Target &reference, Random &random) {
  const uint8_t in_zero = op.quantizes ? 0 : op.zero, out_zero = op.quantizes ? op.zero : 0;
  std::vector<Range> in_islands, out_islands;
  for (Extent w : windows(op)) {
    in_islands.push_back({op.bytes(true, w.begin), op.bytes(true, w.end)});
    out_islands.push_back({op.bytes(false, w.begin), op.bytes(false, w.end)});
  }
  const SparseArray in(op.bytes(true, op.n()), in_islands, in_zero);
  const SparseArray out(op.bytes(false, op.n()), out_islands, uint8_t(~out_zero));
  if (!in.ok() || !out.ok()) return "no address space for the test's arrays";

  const std::vector<float> code = values_of(Code::kDynamicSigned, random);
  const Bytes one = scale_of_one(op);
  Bytes scale;
  scale.reserve(size_t(op.scale_bytes(op.n())));
  while (int64_t(scale.size()) < op.scale_bytes(op.n())) scale.insert(scale.end(), one.begin(), one.end());
  std::vector<Call> calls;
  for (Extent w : windows(op)) {
    Bytes content = window_content(op, w, random);
    std::memcpy(in.data() + op.bytes(true, w.begin), content.data(), content.size());
    Bytes scales_here = window_scales(op, w, random);
    std::copy(scales_here.begin(), scales_here.end(), scale.begin() + op.scale_bytes(w.begin));
    calls.push_back(window_call(op, w, std::move(content), std::move(scales_here), code));
    for (Tensor &tensor : calls.back().tensors) tensor.nan = Nan::kAny;
  }
  std::string problem = run_whole(op, target, in.data(), out.data(), &scale, code);
  for (size_t i = 0; i < calls.size() && problem.empty(); ++i) {
    const Extent w = windows(op)[i];
    std::vector<Bytes> want, got(calls[i].tensors.size());
    problem = run(calls[i], reference, kPlain, &want);
    const uint8_t *window_out = out.data() + op.bytes(false, w.begin);
    got[3].assign(window_out, window_out + op.bytes(false, w.n()));
    if (op.quantizes) got[1].assign(scale.begin() + op.scale_bytes(w.begin), scale.begin() + op.scale_bytes(w.end));
    if (problem.empty()) problem = compare(calls[i], got, want);
    if (!problem.empty()) problem += "\n     in the window from element " + std::to_string(w.begin);
  }
  if (problem.empty() && !out.sea_is(out_zero)) problem = "out is not zero between the windows";
  return problem;
}

}  // namespace

CONFORMANCE(large) {
  if (!suite.slow()) return;
  for (const Op &op : kOps) {
    suite.check_on_each(std::string("large/") + op.name, [&](const Target &target, Random &random) -> std::string {
      if (suite.targets().size() > 1 && target.isa && std::strcmp(target.isa, "reference") == 0) return "";
      return check_large(op, target, {"cpu/reference", {kDLCPU, 0}, "reference"}, random);
    });
  }
}
