// SPDX-License-Identifier: MIT
// One call on one target, and the comparison of its results with the reference's.
#include <cstdio>
#include <memory>

#include "suite.h"
#include "values.h"

namespace conformance {
namespace {

std::string join(const char *what, const char *why) { return std::string(what) + ": " + why; }

// "0x3f800000 (1)"
std::string describe(DLDataType dtype, const uint8_t *item) {
  uint64_t bits = 0;
  std::memcpy(&bits, item, size_t(size_of(dtype)));
  char text[64];
  if (is_float(dtype)) {
    std::snprintf(text, sizeof text, "0x%0*llx (%.9g)", dtype.bits / 4, (unsigned long long)bits,
                  double(value_of(dtype, item)));
  } else if (dtype.code == kDLInt) {
    std::snprintf(text, sizeof text, "%lld", (long long)(int64_t(bits << (64 - dtype.bits)) >> (64 - dtype.bits)));
  } else {
    std::snprintf(text, sizeof text, "0x%0*llx", dtype.bits / 4, (unsigned long long)bits);
  }
  return text;
}

// The elements of the source that an item of an output was made from.
std::string describe_source(const Call &call, const Tensor &output, int64_t item) {
  const Tensor &source = call.tensors[size_t(call.source)];
  if (source.content.empty()) return "";
  const int64_t per_item =
      ceil_div(source.elements(), call.elements_per_item) == output.elements() ? call.elements_per_item : 1;
  std::string text;
  for (int64_t i = item * per_item; i < (item + 1) * per_item && i < source.elements(); ++i) {
    if (output.elements() != ceil_div(source.elements(), per_item)) break;
    text += std::string(", ") + source.name + "[" + std::to_string(i) +
            "] = " + describe(source.dtype, source.content.data() + i * size_of(source.dtype));
  }
  return text;
}

bool same(const Tensor &tensor, const uint8_t *got, const uint8_t *want) {
  if (std::memcmp(got, want, size_t(size_of(tensor.dtype))) == 0) return true;
  return tensor.nan == Nan::kAny && is_nan(tensor.dtype, got) && is_nan(tensor.dtype, want);
}

}  // namespace

std::string run(const Call &call, const Target &target, const Placement &placement, std::vector<Bytes> *results) {
  if (target.isa && bnb_set_isa(target.isa) != BNB_OK) return bnb_last_error();
  if (bnb_set_num_threads(placement.threads) != BNB_OK) return bnb_last_error();
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<DLTensor *> tensors;
  for (const Tensor &tensor : call.tensors) {
    buffers.push_back(std::make_unique<Buffer>(tensor, target.device, placement));
    if (!buffers.back()->usable()) return join(tensor.name, bnb_last_error());
    tensors.push_back(buffers.back()->descriptor());
  }
  const bnb_status status = call.invoke(tensors.data());
  if (status == BNB_ERROR_UNSUPPORTED) return join("UNSUPPORTED", bnb_last_error());
  if (status != BNB_OK) return join(bnb_status_name(status), bnb_last_error());
  if (bnb_synchronize(target.device, nullptr) != BNB_OK) return bnb_last_error();

  results->assign(call.tensors.size(), {});
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (const char *damage = buffers[i]->fetch(&(*results)[i])) return join(call.tensors[i].name, damage);
  }
  return "";
}

std::string compare(const Call &call, const std::vector<Bytes> &got, const std::vector<Bytes> &want) {
  for (size_t t = 0; t < call.tensors.size(); ++t) {
    const Tensor &tensor = call.tensors[t];
    if (!tensor.output || got[t] == want[t]) continue;
    const int64_t size = size_of(tensor.dtype);
    int64_t first = -1, wrong = 0;
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      if (same(tensor, got[t].data() + i * size, want[t].data() + i * size)) continue;
      if (wrong++ == 0) first = i;
    }
    if (wrong == 0) continue;
    return std::string(tensor.name) + "[" + std::to_string(first) + "] is " +
           describe(tensor.dtype, got[t].data() + first * size) + ", must be " +
           describe(tensor.dtype, want[t].data() + first * size) + describe_source(call, tensor, first) + " (" +
           std::to_string(wrong) + " of " + std::to_string(tensor.elements()) + " differ)";
  }
  return "";
}

}  // namespace conformance
