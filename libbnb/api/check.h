// SPDX-License-Identifier: MIT
// Validation of a call's arguments. A Check remembers the first thing that is wrong and says it in the house style:
// "cquantize_4bit: absmax has 3 elements, must have 4 (one per block of 64)".
#ifndef BNB_API_CHECK_H_
#define BNB_API_CHECK_H_

#include "core/backend.h"
#include "core/status.h"
#include "core/workspace.h"

namespace bnb::api {

// A validated tensor: where its elements are and how many.
struct View {
  void *data = nullptr;
  int64_t n = 0;      // elements
  int64_t bytes = 0;  // from data to the end of the last element
  int32_t ndim = 0;
  const int64_t *shape = nullptr;
  int64_t row_stride = 0;  // elements from one row to the next, for tensors of two dimensions
  DLDataType dlpack_dtype{};
  DType dtype = DType::kOther;

  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return shape[1]; }
};

// The sets of dtypes that arguments may have, as bits of DType.
constexpr uint32_t bit(DType dtype) { return 1u << uint32_t(dtype); }
constexpr uint32_t kFloats = bit(DType::kF32) | bit(DType::kF16) | bit(DType::kBF16);
constexpr uint32_t kAnyDType = ~0u;

enum class Layout { kCompact, kStridedRows };

class Check {
 public:
  explicit Check(const char *function) : function_(function) {}

  View input(const char *name, const DLTensor *tensor, uint32_t dtypes, Layout layout = Layout::kCompact);
  View output(const char *name, DLTensor *tensor, uint32_t dtypes, Layout layout = Layout::kCompact);

  // Each says what is wrong if the condition does not hold, and nothing after the first wrong thing.
  void rank(const char *name, const View &view, int32_t ndim);
  void elements(const char *name, const View &view, int64_t expected, const char *why);
  void same_shape(const char *name, const View &view, const char *other_name, const View &other);
  void blocksize(const char *name, int64_t blocksize, bool even = false);
  void sorted_code(const char *name, const View &code);
  void that(bool condition, const char *format, ...) BNB_PRINTF(3, 4);

  // Begins the checks of one entry of a list: messages name it ("tensors[3].p has ..."; of the entry itself if its name is ""),
  // and overlaps are looked for among its tensors and those known before the first entry.
  void entry(const char *list, int64_t index);

  // False once anything was wrong: the values of views must not be used then.
  bool ok() const { return status_ == BNB_OK; }

  // Also looks for outputs that overlap an input or another output. Call it when all tensors are known.
  bnb_status finish();

  Queue queue(void *stream) const { return {device_, stream, &handles_}; }
  const Backend *backend() const { return backend_; }

  // finish(), then the backend's slot for the operation.
  template <typename Args>
  bnb_status run(bnb_status (*Backend::*slot)(const Args &, Queue), const Args &args, void *stream) {
    const bnb_status status = finish();
    if (status != BNB_OK) return status;
    if (!(backend_->*slot)) return unsupported();
    const auto call = [&] { return (backend_->*slot)(args, queue(stream)); };
    if (workspace::concerned()) return run_in_workspace([](const void *c) { return (*static_cast<decltype(&call)>(c))(); }, &call);
    return named(call());
  }

 private:
  bnb_status run_in_workspace(bnb_status (*call)(const void *closure), const void *closure);
  void look_for_overlaps();
  View add(const char *name, const DLTensor *tensor, uint32_t dtypes, Layout layout, bool output);
  bool describe(const char *name, const DLTensor &tensor, Layout layout, View *view);
  bool check_device(const char *name, const DLTensor &tensor);
  bool place(const char *name, const DLTensor &tensor, View *view);
  bool begin_of_buffer(const char *name, const DLTensor &tensor, uint64_t bytes, uintptr_t *begin);
  bnb_status unsupported();
  bnb_status named(bnb_status status);  // puts the function in front of a backend's words that do not name it

  struct Range {
    const char *name;
    uintptr_t begin, end;
    bool output;
  };
  static constexpr int kMaxTensors = 12;

  const char *function_;
  bnb_status status_ = BNB_OK;
  DLDevice device_{};
  const char *device_of_ = nullptr;  // the argument that decided the device
  const Backend *backend_ = nullptr;
  Range ranges_[kMaxTensors];
  int range_count_ = 0;
  int shared_ranges_ = 0;       // those known before the first entry
  const char *list_ = nullptr;  // the entry whose checks these are
  int64_t index_ = 0;
  Handles handles_;
};

// A view that must be a vector of `expected` elements.
View vector_of(Check &check, const char *name, View view, int64_t expected, const char *why);

}  // namespace bnb::api

#endif  // BNB_API_CHECK_H_
