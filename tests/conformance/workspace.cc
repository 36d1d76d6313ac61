// SPDX-License-Identifier: MIT
// bnb/workspace.h: calls that are only asked write nothing; in exactly as much memory as they asked for they have the same results, in
// less they are refused and write nothing.
#include <bnb/bitsandbytes.h>
#include <bnb/workspace.h>

#include "samples.h"
#include "suite.h"

using namespace conformance;

namespace {

// Memory of a device as this thread's workspace, with bytes behind it that nobody may touch.
class Given {
 public:
  Given(DLDevice device, size_t bytes) : device_(device), bytes_(bytes) {
    const Bytes image(bytes + kBehind, 0xC3);
    usable_ = bnb_allocate(device, image.size(), &data_) == BNB_OK &&
              bnb_copy(device, data_, {kDLCPU, 0}, image.data(), image.size(), nullptr) == BNB_OK &&
              bnb_set_workspace(device, data_, bytes) == BNB_OK;
  }
  ~Given() {
    bnb_set_workspace(device_, nullptr, 0);
    bnb_free(device_, data_);
  }
  Given(const Given &) = delete;
  Given &operator=(const Given &) = delete;
  bool usable() const { return usable_; }
  bool kept_within() const {
    Bytes image(kBehind);
    bnb_copy({kDLCPU, 0}, image.data(), device_, static_cast<char *>(data_) + bytes_, kBehind, nullptr);
    return image == Bytes(kBehind, 0xC3);
  }

 private:
  static constexpr size_t kBehind = 512;
  DLDevice device_;
  size_t bytes_;
  void *data_ = nullptr;
  bool usable_;
};

// What outputs hold before a call.
std::vector<Bytes> untouched(const Call &call) {
  std::vector<Bytes> images(call.tensors.size());
  for (size_t i = 0; i < images.size(); ++i) {
    const Tensor &tensor = call.tensors[i];
    if (!tensor.output) continue;
    images[i].assign(size_t(tensor.span()), kPlain.filler);
    std::copy(tensor.content.begin(), tensor.content.end(), images[i].begin());
  }
  return images;
}

// The call, as one that must be refused for want of memory: "" if it was, naming the number.
std::string refused(const Call &call, const Target &target, size_t needed) {
  Call shy = call;
  bnb_status status = BNB_OK;
  std::string text;
  shy.invoke = [&](DLTensor *const *t) {
    status = call.invoke(t);
    text = bnb_last_error();
    return BNB_OK;
  };
  std::vector<Bytes> after;
  const std::string problem = run(shy, target, kPlain, &after);
  if (!problem.empty()) return problem;
  if (status != BNB_ERROR_OUT_OF_MEMORY) return "with less memory than it asks for, its status is " + std::to_string(status);
  if (text.find(" " + std::to_string(needed) + " bytes") == std::string::npos) return "the error does not say how much it needs: " + text;
  return after == untouched(call) ? "" : "it was refused, but something was written";
}

std::string check(const Call &call, const Target &target) {
  std::vector<Bytes> want, got;
  std::string problem = run(call, target, kPlain, &want);
  if (!problem.empty()) return problem;
  bnb_workspace_query(1);
  problem = run(call, target, kPlain, &got);
  bnb_workspace_query(0);
  const size_t needed = bnb_workspace_bytes();
  if (!problem.empty()) return "when asked: " + problem;
  if (got != untouched(call)) return "it was only asked, but something was written";
  const bool takes_none = target.isa || target.device.device_type == kDLMetal;
  if (takes_none) return needed == 0 ? "" : "it asks for a workspace that it cannot be given";
  {
    const Given given(target.device, needed);
    if (!given.usable()) return bnb_last_error();
    problem = run(call, target, kPlain, &got);
    if (!problem.empty()) return "in the memory that it asked for: " + problem;
    if (!given.kept_within()) return "memory behind the workspace was written";
    problem = compare(call, got, want);
    if (!problem.empty()) return "in the caller's memory: " + problem;
  }
  if (needed == 0) return "";
  const Given given(target.device, needed - 1);
  return given.usable() ? refused(call, target, needed) : bnb_last_error();
}

}  // namespace

CONFORMANCE(workspace) {
  const int64_t sizes[] = {300, 20000};
  for (int i = 0; i < sample_count(); ++i) {
    Random naming(1);
    const std::string function = sample(i, 10, naming).function;
    for (const int64_t n : sizes) {
      if (suite.quick() && n > 300) continue;
      suite.check_on_each("workspace/" + function + "/" + std::to_string(i) + "/n=" + std::to_string(n),
                          [=](const Target &target, Random &random) -> std::string {
                            for (int times = 0; times < 3; ++times) {
                              const std::string problem = check(call_of(sample(i, n, random)), target);
                              if (!problem.empty()) return problem;
                            }
                            return "";
                          });
    }
  }
  suite.check_on_each("workspace/misuse", [](const Target &target, Random &) -> std::string {
    if (bnb_workspace_query(2) != BNB_ERROR_INVALID_ARGUMENT) return "bnb_workspace_query took a 2";
    if (bnb_set_workspace({kDLCPU, 9}, nullptr, 0) != BNB_ERROR_INVALID_ARGUMENT) return "a device that is not there took a workspace";
    if (target.isa) return bnb_set_workspace(target.device, nullptr, 7) == BNB_OK ? "" : bnb_last_error();
    alignas(256) static char host[256];
    const bnb_status none = target.device.device_type == kDLMetal ? BNB_ERROR_UNSUPPORTED : BNB_ERROR_INVALID_ARGUMENT;
    if (bnb_set_workspace(target.device, host, sizeof host) != none) return "host memory became a workspace";
    return "";
  });
  suite.check_on_each("workspace/alternating", [](const Target &target, Random &) -> std::string {
    // The neediest call counts, not the last and not their sum.
    if (target.isa || target.device.device_type == kDLMetal) return "";  // Metal's buffers cannot be made up
    size_t alone[2], together = 0;
    for (int which = 0; which < 3; ++which) {
      bnb_workspace_query(1);
      for (int i = 0; i < 2; ++i) {
        if (which != i && which != 2) continue;
        constexpr int64_t kColumns[] = {64, 5000};
        int64_t shape[] = {100, kColumns[i]}, rows[] = {100}, cols[] = {kColumns[i]};
        char *const anywhere = reinterpret_cast<char *>(uintptr_t(1) << 40);  // nobody looks at what is only asked for
        DLTensor A{anywhere, target.device, 2, kF16, shape, nullptr, 0};
        DLTensor out{anywhere + (1 << 24), target.device, 2, kI8, shape, nullptr, 0};
        DLTensor stats{anywhere + (1 << 25), target.device, 1, kF32, rows, nullptr, 0};
        DLTensor outliers{anywhere + (1 << 26), target.device, 1, kU8, cols, nullptr, 0};
        if (cquantize_int8_vectorwise(&A, 6.0f, &out, &stats, &outliers, nullptr) != BNB_OK) return bnb_last_error();
      }
      bnb_workspace_query(0);
      (which < 2 ? alone[which] : together) = bnb_workspace_bytes();
    }
    return alone[1] > alone[0] && together == alone[1] ? "" : "the largest of two calls is " + std::to_string(together);
  });
}
