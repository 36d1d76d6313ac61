// SPDX-License-Identifier: MIT
// A sample call in guarded memory.
#ifndef TESTS_UNIT_PREPARED_H_
#define TESTS_UNIT_PREPARED_H_

#include <memory>

#include "conformance/memory.h"
#include "conformance/samples.h"

namespace unit {

class Prepared {
 public:
  explicit Prepared(const conformance::Sample &sample) : sample_(sample) {
    constexpr conformance::Placement kPlacement{"at the end of a page", true, 0, false, false, 0, kFiller};
    for (const conformance::Tensor &tensor : sample_.tensors) {
      buffers_.push_back(std::make_unique<conformance::Buffer>(tensor, DLDevice{kDLCPU, 0}, kPlacement));
      tensors_.push_back(buffers_.back()->descriptor());
    }
    before_ = outputs();
  }

  bnb_status call() { return sample_.call(tensors_.data(), sample_.scalars); }

  // The content of all outputs, one behind the other.
  conformance::Bytes outputs() {
    conformance::Bytes all;
    for (const auto &buffer : buffers_) {
      conformance::Bytes content;
      buffer->fetch(&content);
      all.insert(all.end(), content.begin(), content.end());
    }
    return all;
  }
  // Equal to what they were before any call: a filler, or the values of what is updated in place.
  bool outputs_untouched() { return outputs() == before_; }

 private:
  static constexpr uint8_t kFiller = 0xA5;

  const conformance::Sample &sample_;
  std::vector<std::unique_ptr<conformance::Buffer>> buffers_;
  std::vector<DLTensor *> tensors_;
  conformance::Bytes before_;
};

}  // namespace unit

#endif  // TESTS_UNIT_PREPARED_H_
