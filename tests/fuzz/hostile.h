// SPDX-License-Identifier: MIT
// A right call made wrong in random ways, in memory that notices.
#ifndef TESTS_FUZZ_HOSTILE_H_
#define TESTS_FUZZ_HOSTILE_H_

#include <string>

#include "conformance/memory.h"
#include "conformance/samples.h"
#include "devices.h"

namespace fuzz {

using conformance::Bytes;
using conformance::Random;

enum class Outcome { kAccepted, kRefused, kNotRun, kWrong };

// A tensor as the call will see it. What it says about its memory is true: so much memory there is, between guard
// pages.
struct Subject {
  conformance::Tensor tensor;
  std::vector<int64_t> shape, strides;
  bool has_strides = false, absent = false, no_data = false;
  bool touched = false;  // a mutation has been here: a second one could make right what the first one made wrong
  int32_t ndim = 0;
  DLDevice device = kCpu;
  uint64_t byte_offset = 0;
  int beside = -1;     // shares the memory of this other subject,
  double where = 0.0;  // at this place of all the places where the two overlap

  // Elements, and bytes from the first to the last element; -1 if the descriptor makes no sense or they cannot be
  // counted.
  int64_t elements() const;
  int64_t span() const;
};

class HostileCall {
 public:
  HostileCall(conformance::Sample sample, Random &random);
  ~HostileCall();
  HostileCall(const HostileCall &) = delete;
  HostileCall &operator=(const HostileCall &) = delete;

  void mutate();  // one thing more is strange
  Outcome run();  // once; problem() says what is wrong about kWrong
  const std::string &problem() const { return problem_; }
  const char *function() const { return sample_.function; }
  std::string describe() const;

 private:
  bool is(const char *part) const;
  bool passed(size_t index) const;
  bool optional(size_t index) const;
  void must_fail(const char *why) { must_fail_ = why; }

  void mutate_shape(size_t index);
  void mutate_strides(size_t index);
  void mutate_dtype(size_t index);
  void mutate_overlap(size_t index);
  void mutate_scalars();
  void mutate_code(size_t index);

  bool lay_out();
  bool place(size_t index);
  size_t owner(size_t index) const;  // the subject in whose pages this one lies
  int64_t offset_in_pages(size_t index) const;
  void make_descriptor(size_t index);
  bool writes_overlap() const;
  std::vector<Bytes> snapshot() const;
  void restore(const std::vector<Bytes> &images);
  Outcome judge(bnb_status status, const std::vector<Bytes> &before);
  bool same_results(const std::vector<Bytes> &a, const std::vector<Bytes> &b) const;
  bool only_outputs_changed(const std::vector<Bytes> &before) const;
  Outcome wrong(const std::string &what);

  bnb_status call_on_device();

  conformance::Sample sample_;
  Random &random_;
  const DLDevice device_;  // where the call runs: another than the CPU has an image of every tensor's pages
  std::vector<Subject> subjects_;
  std::vector<std::string> mutations_;
  const char *must_fail_ = nullptr;
  bool lies_ = false;  // a tensor that the operation may take claims memory that is not there
  uint32_t touched_scalars_ = 0;

  std::vector<conformance::Pages> pages_;        // of each subject; empty for one that lies beside another
  std::vector<uint8_t *> data_;                  // where its elements begin
  std::vector<conformance::Pages> index_pages_;  // shapes and strides, each at the end of a page
  std::vector<DLTensor> descriptors_;
  std::vector<DLTensor *> arguments_;
  std::string problem_;
};

}  // namespace fuzz

#endif  // TESTS_FUZZ_HOSTILE_H_
