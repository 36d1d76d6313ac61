// SPDX-License-Identifier: MIT
// Laying out a hostile call, running it, and judging what happened.
#include "hostile.h"

#include <algorithm>
#include <cmath>

#include "conformance/values.h"

namespace fuzz {
namespace {

constexpr int64_t kLargest = 1 << 20;  // bytes of a tensor that the test has memory for
constexpr uint8_t kFiller = 0xA5;
constexpr int32_t kRanks = 64;  // more dimensions than this no descriptor can have

// Values that a described size can take are far below this; products that reach it count as endless.
constexpr __int128 kEndless = __int128(1) << 100;

}  // namespace

int64_t Subject::elements() const {
  if (ndim < 0 || ndim > int32_t(shape.size())) return -1;
  __int128 n = 1;
  bool empty = false;
  for (int32_t i = 0; i < ndim; ++i) {
    if (shape[size_t(i)] < 0) return -1;
    empty = empty || shape[size_t(i)] == 0;
    n = std::min(n * shape[size_t(i)], kEndless);
  }
  return empty ? 0 : n > INT64_MAX ? -1 : int64_t(n);
}

int64_t Subject::span() const {
  const int64_t n = elements();
  if (n <= 0) return n;
  __int128 last = n - 1;
  if (has_strides) {
    last = 0;
    for (int32_t i = 0; i < ndim; ++i) {
      const __int128 stride = strides[size_t(i)] < 0 ? -__int128(strides[size_t(i)]) : strides[size_t(i)];
      last = std::min(last + (shape[size_t(i)] - 1) * stride, kEndless);
    }
  }
  const __int128 bytes = (last + 1) * ((int64_t(tensor.dtype.bits) * tensor.dtype.lanes + 7) / 8);
  return bytes > INT64_MAX ? -1 : int64_t(bytes);
}

HostileCall::HostileCall(conformance::Sample sample, Random &random)
    : sample_(std::move(sample)), random_(random), device_(devices()[size_t(random.below(int64_t(devices().size())))]) {
  for (const conformance::Tensor &tensor : sample_.tensors) {
    Subject subject;
    subject.tensor = tensor;
    subject.shape = tensor.shape;
    subject.ndim = int32_t(tensor.shape.size());
    subjects_.push_back(std::move(subject));
  }
}

HostileCall::~HostileCall() {
  for (const conformance::Pages &pages : pages_) {
    if (pages.begin) conformance::give_back_pages(pages);
  }
  for (const conformance::Pages &pages : index_pages_) conformance::give_back_pages(pages);
}

// Memory of its own for a tensor, up to the end of a page. A size that the test has no memory for gets a little, and
// must be refused: nobody else in the call agrees to it.
bool HostileCall::place(size_t index) {
  Subject &subject = subjects_[index];
  const int64_t span = subject.span();
  const bool real = span >= 0 && span <= kLargest;
  if (span > kLargest && sample_.uses.free_sizes) lies_ = true;
  if (!real && passed(index) && !subject.absent) must_fail("a tensor is larger than all others or makes no sense");
  const int64_t bytes = real ? span : 0;
  pages_[index] = conformance::take_pages(bytes);
  std::memset(pages_[index].begin, kFiller, size_t(pages_[index].size));
  data_[index] = pages_[index].begin + pages_[index].size - bytes;
  const Bytes &content = subject.tensor.content;
  if (!content.empty()) {
    for (int64_t i = 0; i < bytes; ++i) data_[index][i] = content[size_t(i) % content.size()];
  }
  return real;
}

void HostileCall::make_descriptor(size_t index) {
  const Subject &subject = subjects_[index];
  DLTensor &descriptor = descriptors_[index];
  descriptor = {};
  const uintptr_t address =
      reinterpret_cast<uintptr_t>(data_[index]) - uintptr_t(subject.byte_offset);  // may wrap around
  descriptor.data = subject.no_data ? nullptr : reinterpret_cast<void *>(address);
  descriptor.device = subject.device;
  descriptor.ndim = subject.ndim;
  descriptor.dtype = subject.tensor.dtype;
  descriptor.byte_offset = subject.byte_offset;
  // Exactly so many entries as there are dimensions, up to a guard page.
  const auto at_the_end = [&](const std::vector<int64_t> &values) {
    std::vector<int64_t> entries = values;
    if (subject.ndim >= 0 && subject.ndim <= kRanks) entries.resize(size_t(subject.ndim), 1);
    index_pages_.push_back(conformance::take_pages(int64_t(entries.size() * 8)));
    uint8_t *begin = index_pages_.back().begin + index_pages_.back().size - entries.size() * 8;
    if (!entries.empty()) std::memcpy(begin, entries.data(), entries.size() * 8);
    return reinterpret_cast<int64_t *>(begin);
  };
  descriptor.shape = at_the_end(subject.shape);
  descriptor.strides = subject.has_strides ? at_the_end(subject.strides) : nullptr;
  arguments_[index] = subject.absent ? nullptr : &descriptor;
}

// Whether two tensors of the call share bytes of which one is written.
bool HostileCall::writes_overlap() const {
  for (size_t i = 0; i < subjects_.size(); ++i) {
    if (subjects_[i].beside < 0) continue;
    for (size_t j = 0; j < subjects_.size(); ++j) {
      const bool seen =
          passed(i) && passed(j) && arguments_[i] && arguments_[j] && !subjects_[i].no_data && !subjects_[j].no_data;
      const bool written = subjects_[i].tensor.output || subjects_[j].tensor.output;
      const uint8_t *i_end = data_[i] + std::max<int64_t>(subjects_[i].span(), 0);
      const uint8_t *j_end = data_[j] + std::max<int64_t>(subjects_[j].span(), 0);
      const bool some = data_[i] < i_end && data_[j] < j_end;
      if (i != j && seen && written && some && data_[i] < j_end && data_[j] < i_end) return true;
    }
  }
  return false;
}

// False if the call cannot be run: two tensors agree on a size that the test has no memory for.
bool HostileCall::lay_out() {
  pages_.resize(subjects_.size());
  data_.resize(subjects_.size());
  descriptors_.resize(subjects_.size());
  arguments_.resize(subjects_.size());
  int unreal = 0;
  for (size_t i = 0; i < subjects_.size(); ++i) {
    if (subjects_[i].beside < 0) unreal += !place(i);
  }
  for (size_t i = 0; i < subjects_.size(); ++i) {
    if (subjects_[i].beside < 0) continue;
    const conformance::Pages &host = pages_[size_t(subjects_[i].beside)];
    const uint8_t *other = data_[size_t(subjects_[i].beside)];
    const int64_t span = subjects_[i].span();
    if (span < 0 || span > host.size) return false;
    const int64_t first = std::max<int64_t>(0, other - host.begin - span), last = host.size - span;
    data_[i] = host.begin + first + int64_t(subjects_[i].where * double(std::max<int64_t>(0, last - first)));
  }
  for (size_t i = 0; i < subjects_.size(); ++i) make_descriptor(i);
  if (writes_overlap()) must_fail("an output overlaps another tensor");
  return unreal <= 1 && !lies_;
}

std::vector<Bytes> HostileCall::snapshot() const {
  std::vector<Bytes> images;
  for (const conformance::Pages &pages : pages_) {
    images.emplace_back(pages.begin, pages.begin + (pages.begin ? pages.size : 0));
  }
  return images;
}

void HostileCall::restore(const std::vector<Bytes> &images) {
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (pages_[i].begin) std::memcpy(pages_[i].begin, images[i].data(), images[i].size());
  }
}

size_t HostileCall::owner(size_t index) const {
  return subjects_[index].beside < 0 ? index : size_t(subjects_[index].beside);
}

int64_t HostileCall::offset_in_pages(size_t index) const { return data_[index] - pages_[owner(index)].begin; }

bool HostileCall::only_outputs_changed(const std::vector<Bytes> &before) const {
  std::vector<Bytes> expected = before;
  const std::vector<Bytes> now = snapshot();
  for (size_t i = 0; i < subjects_.size(); ++i) {
    if (!subjects_[i].tensor.output || !arguments_[i]) continue;
    const int64_t at = offset_in_pages(i), count = std::max<int64_t>(subjects_[i].span(), 0);
    std::copy_n(now[owner(i)].begin() + at, count, expected[owner(i)].begin() + at);
  }
  return expected == now;
}

// Outputs are equal, but for NaN of another kind where that is allowed. The rest has been compared already.
bool HostileCall::same_results(const std::vector<Bytes> &a, const std::vector<Bytes> &b) const {
  for (size_t i = 0; i < subjects_.size(); ++i) {
    const conformance::Tensor &tensor = subjects_[i].tensor;
    if (!tensor.output || !arguments_[i]) continue;
    const int64_t size = conformance::size_of(tensor.dtype), begin = offset_in_pages(i);
    for (int64_t at = begin; at < begin + subjects_[i].span(); at += size) {
      const uint8_t *x = a[owner(i)].data() + at, *y = b[owner(i)].data() + at;
      if (std::memcmp(x, y, size_t(size)) == 0) continue;
      const bool both_nan = conformance::is_nan(tensor.dtype, x) && conformance::is_nan(tensor.dtype, y);
      if (tensor.nan != conformance::Nan::kAny || !both_nan) return false;
    }
  }
  return true;
}

Outcome HostileCall::wrong(const std::string &what) {
  problem_ = what;
  return Outcome::kWrong;
}

Outcome HostileCall::judge(bnb_status status, const std::vector<Bytes> &before) {
  if (status == BNB_OK) {
    if (must_fail_) return wrong(std::string("it was accepted, but ") + must_fail_);
    if (!only_outputs_changed(before)) return wrong("something other than the outputs was written");
    const std::vector<Bytes> results = snapshot();
    restore(before);
    if (bnb_set_isa("reference") != BNB_OK) return wrong(bnb_last_error());
    const bnb_status again = sample_.call(arguments_.data(), sample_.scalars);
    bnb_set_isa(nullptr);
    if (again != BNB_OK && !is_cpu(device_)) return Outcome::kAccepted;  // of values the host does not see it cannot complain
    if (again != BNB_OK) return wrong("the reference refuses it");
    const bool same = !sample_.uses.exact || same_results(results, snapshot());
    return same ? Outcome::kAccepted : wrong("the reference has other results");
  }
  const bool no_kernel = status == BNB_ERROR_UNSUPPORTED && device_.device_type == kDLMetal;
  if (status != BNB_ERROR_INVALID_ARGUMENT && status != BNB_ERROR_UNSUPPORTED) {
    return wrong(std::string("status ") + bnb_status_name(status) + ": " + bnb_last_error());
  }
  if (snapshot() != before) return wrong("it failed, but something was written");
  const std::string text = bnb_last_error(), start = std::string(sample_.function) + ": ";
  if (text.compare(0, start.size(), start) != 0) return wrong("the error does not name the function: " + text);
  if (mutations_.empty() && !no_kernel) return wrong("a right call was refused: " + text);
  return Outcome::kRefused;
}

Outcome HostileCall::run() {
  if (!lay_out()) return Outcome::kNotRun;
  const std::vector<Bytes> before = snapshot();
  return judge(is_cpu(device_) ? sample_.call(arguments_.data(), sample_.scalars) : call_on_device(), before);
}

// The same call with every tensor in the image of its pages.
bnb_status HostileCall::call_on_device() {
  std::vector<Image> images;
  for (const conformance::Pages &pages : pages_) {
    images.emplace_back(device_, pages.begin ? pages : conformance::Pages{});
    if (pages.begin && !images.back().upload()) return BNB_ERROR_INTERNAL;
  }
  std::vector<DLTensor> descriptors = descriptors_;
  std::vector<DLTensor *> arguments = arguments_;
  for (size_t i = 0; i < descriptors.size(); ++i) {
    DLTensor &descriptor = descriptors[i];
    const uint64_t offset = uint64_t(offset_in_pages(i));
    char *const base = static_cast<char *>(images[owner(i)].data());
    if (device_.device_type == kDLMetal) {
      descriptor.byte_offset = offset;
      if (descriptor.data) descriptor.data = base;
    } else if (descriptor.data) {
      descriptor.data = reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(base) + offset - descriptor.byte_offset);
    }
    if (is_cpu(descriptor.device) && descriptor.device.device_id == 0) descriptor.device = device_;
    if (arguments[i]) arguments[i] = &descriptor;
  }
  const bnb_status status = sample_.call(arguments.data(), sample_.scalars);
  for (size_t i = 0; i < images.size(); ++i) {
    if (pages_[i].begin && !images[i].download()) return BNB_ERROR_INTERNAL;
  }
  return status;
}

std::string HostileCall::describe() const {
  std::string text = sample_.function;
  if (!is_cpu(device_)) text += " on device type " + std::to_string(device_.device_type);
  for (const std::string &mutation : mutations_) text += "\n       " + mutation;
  const conformance::Scalars &s = sample_.scalars;
  text += "\n     blocksize " + std::to_string(s.blocksize) + ", nested " + std::to_string(s.nested) + " of " +
          std::to_string(s.nested_blocksize) + ", quant_type " + std::to_string(s.kind) + ", threshold " +
          std::to_string(s.threshold);
  for (const Subject &subject : subjects_) {
    text += std::string("\n     ") + subject.tensor.name + (subject.absent ? " absent" : "") +
            (subject.no_data ? " without data" : "") + ": ndim " + std::to_string(subject.ndim) + ", dtype " +
            std::to_string(subject.tensor.dtype.code) + "/" + std::to_string(subject.tensor.dtype.bits) + "/" +
            std::to_string(subject.tensor.dtype.lanes) + ", shape";
    for (int64_t extent : subject.shape) text += " " + std::to_string(extent);
    if (subject.has_strides) text += ", strides";
    for (size_t i = 0; subject.has_strides && i < subject.strides.size(); ++i) {
      text += " " + std::to_string(subject.strides[i]);
    }
    if (subject.beside >= 0) text += ", in the memory of " + std::string(subjects_[size_t(subject.beside)].tensor.name);
  }
  return text;
}

}  // namespace fuzz
