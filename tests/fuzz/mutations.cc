// SPDX-License-Identifier: MIT
// What is done to right calls. A mutation that no operation may accept says so; of the others the call decides.
#include <cmath>
#include <limits>

#include "hostile.h"

namespace fuzz {
namespace {

template <typename T, size_t N>
T any_of(Random &random, const T (&values)[N]) {
  return values[random.below(int64_t(N))];
}

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

bool HostileCall::is(const char *part) const { return std::strstr(sample_.function, part) != nullptr; }

// Whether the call gets the tensor at all: those of a bnb_nested only with it.
bool HostileCall::passed(size_t index) const {
  return sample_.scalars.nested || std::strncmp(subjects_[index].tensor.name, "nested.", 7) != 0;
}

bool HostileCall::optional(size_t index) const { return conformance::is_optional(subjects_[index].tensor); }

void HostileCall::mutate() {
  const size_t index = size_t(random_.below(int64_t(subjects_.size())));
  Subject &subject = subjects_[index];
  const bool reached = passed(index);
  const int64_t kind = random_.below(12);
  if (kind >= 10) return mutate_scalars();
  if (subject.touched) return;
  subject.touched = true;
  mutations_.push_back(std::string(subject.tensor.name) + ", mutation " + std::to_string(kind));
  switch (kind) {
    case 0:
      subject.absent = true;
      if (reached && !optional(index)) must_fail("a tensor is NULL");
      return;
    case 1:
      subject.no_data = true;
      if (reached && subject.elements() > 0) must_fail("a tensor with elements has no data");
      return;
    case 2: {
      static const DLDevice devices[] = {{kDLCUDA, 0},         {kDLCPU, 1},           {kDLCPU, -1},
                                         {DLDeviceType(0), 0}, {DLDeviceType(-3), 0}, {DLDeviceType(77), 0},
                                         {kDLMetal, 2},        {kDLCPU, INT32_MIN}};
      subject.device = any_of(random_, devices);
      if (may_be_there(subject.device)) subject.device.device_id += 99;
      if (reached) must_fail("a tensor is on a device that is not there");
      return;
    }
    case 3: {
      static const uint64_t offsets[] = {
          1, 7, 4096, uint64_t(1) << 62, uint64_t(1) << 63, ~uint64_t(0), ~uint64_t(0) - 63};
      subject.byte_offset = any_of(random_, offsets);
      return;
    }
    case 4:
    case 5: return mutate_shape(index);
    case 6: return mutate_strides(index);
    case 7: return mutate_dtype(index);
    case 8: return mutate_overlap(index);
    default: return mutate_code(index);
  }
}

void HostileCall::mutate_shape(size_t index) {
  Subject &subject = subjects_[index];
  const bool reached = passed(index);
  if (random_.one_in(6)) {
    static const int32_t ranks[] = {-1, 65, 1000, INT32_MAX, INT32_MIN};
    subject.ndim = any_of(random_, ranks);
    if (reached) must_fail("a tensor has an absurd number of dimensions");
    return;
  }
  if (random_.one_in(4)) {  // other dimensions, sometimes of the same number of elements
    const int64_t n = subject.elements();
    subject.ndim = int32_t(random_.between(0, 5));
    subject.shape.assign(size_t(subject.ndim), 1);
    if (subject.ndim > 0) subject.shape[size_t(random_.below(subject.ndim))] = n;
    subject.has_strides = false;
    return;
  }
  if (subject.ndim < 1 || subject.ndim > int32_t(subject.shape.size())) return;
  int64_t &extent = subject.shape[size_t(random_.below(subject.ndim))];
  const int64_t extents[] = {-1,
                             INT64_MIN,
                             -extent - 1,
                             0,
                             1,
                             extent + 1,
                             extent - 1,
                             2 * extent,
                             int64_t(1) << 31,
                             int64_t(1) << 32,
                             int64_t(1) << 62,
                             INT64_MAX,
                             INT64_MAX / 2 + 1};
  extent = extents[random_.below(int64_t(std::size(extents)))];
  if (reached && extent < 0) must_fail("a tensor has a negative dimension");
}

void HostileCall::mutate_strides(size_t index) {
  Subject &subject = subjects_[index];
  if (subject.ndim < 1 || subject.ndim > int32_t(subject.shape.size())) return;
  subject.has_strides = true;
  subject.strides.assign(subject.shape.size(), 1);
  for (size_t i = subject.shape.size() - 1; i > 0; --i) {
    if (__builtin_mul_overflow(subject.strides[i], subject.shape[i], &subject.strides[i - 1]))
      subject.strides[i - 1] = 0;
  }
  const size_t dimension = size_t(random_.below(subject.ndim));
  const int64_t compact = subject.strides[dimension];
  const int64_t strides[] = {compact, 0, -1, compact + 1, compact + 13, INT64_MAX, INT64_MIN};
  const int64_t stride = strides[random_.below(int64_t(std::size(strides)))];
  subject.strides[dimension] = stride;
  const auto called = [&](const char *name) { return std::strcmp(subject.tensor.name, name) == 0; };
  const bool matrix =
      called("A") || called("out") || (sample_.uses.strided_weights && (called("B") || called("CA") || called("CB")));
  const bool rows = dimension == 0 && subject.ndim == 2 && sample_.uses.strided_rows && matrix;
  if (passed(index) && stride != compact && !rows && subject.shape[dimension] > 1 && subject.elements() > 0) {
    must_fail("strides are not compact");
  }
}

void HostileCall::mutate_dtype(size_t index) {
  static const DLDataType dtypes[] = {
      {kDLFloat, 64, 1},   {kDLFloat, 32, 1},   {kDLFloat, 16, 1},       {kDLBfloat, 16, 1}, {kDLInt, 8, 1},
      {kDLUInt, 8, 1},     {kDLInt, 32, 1},     {kDLBool, 8, 1},         {kDLFloat, 32, 2},  {kDLFloat, 32, 0},
      {kDLUInt, 8, 65535}, {kDLUInt, 0, 1},     {kDLUInt, 4, 1},         {kDLUInt, 1, 1},    {kDLUInt, 255, 1},
      {200, 32, 1},        {kDLComplex, 64, 1}, {kDLOpaqueHandle, 64, 1}};
  Subject &subject = subjects_[index];
  subject.tensor.dtype = any_of(random_, dtypes);
  const DLDataType dtype = subject.tensor.dtype;
  if (passed(index) && (dtype.lanes != 1 || dtype.bits % 8 != 0 || dtype.bits == 0)) must_fail("an absurd dtype");
}

void HostileCall::mutate_overlap(size_t index) {
  const size_t other = size_t(random_.below(int64_t(subjects_.size())));
  if (other == index || subjects_[other].beside >= 0) return;
  for (const Subject &subject : subjects_) {
    if (subject.beside == int(index)) return;  // no chains
  }
  subjects_[index].beside = int(other);
  subjects_[index].where = random_.unit();
}

void HostileCall::mutate_scalars() {
  conformance::Scalars &scalars = sample_.scalars;
  const conformance::Uses &uses = sample_.uses;
  static const int64_t sizes[] = {
      0, -1, INT64_MIN, 1, 2, 3, 63, INT64_MAX, INT64_MAX - 1, int64_t(1) << 62, int64_t(1) << 32};
  const int64_t which = random_.below(5);
  if (touched_scalars_ & (1u << which)) return;
  touched_scalars_ |= 1u << which;
  const bool first = mutations_.empty();
  mutations_.push_back("scalar " + std::to_string(which));
  switch (which) {
    case 0:
      scalars.blocksize = any_of(random_, sizes);
      if (uses.blocksize && scalars.blocksize < 1) must_fail("blocksize is not positive");
      if (uses.blocksize && scalars.blocksize % uses.blocksize != 0) must_fail("blocksize is odd");
      return;
    case 1: {
      static const int32_t types[] = {0, -1, 1, 2, 3, 4, 5, 6, 7, 8, 99, INT32_MIN, INT32_MAX};
      const int32_t kind = any_of(random_, types);
      const bool exists = kind >= uses.first && kind <= uses.last;
      if (exists && is("coptimizer")) return;  // another optimizer would look at other tensors
      scalars.kind = kind;
      if (!exists && uses.last >= uses.first) must_fail("no such quant_type or optimizer");
      return;
    }
    case 2: {
      static const float thresholds[] = {kNaN, -1.0f, -kInfinity, -0.0f, 0.0f, 1e-45f, 3e38f, kInfinity};
      scalars.threshold = any_of(random_, thresholds);
      if (uses.threshold && !(scalars.threshold >= 0.0f)) must_fail("threshold is negative or NaN");
      return;
    }
    case 3:
      scalars.nested_blocksize = any_of(random_, sizes);
      if (scalars.nested && scalars.nested_blocksize < 1) must_fail("nested.blocksize is not positive");
      return;
    default:
      if (!first || !scalars.nested) return;  // tensors that were mutated would not be passed any more
      scalars.nested = false;
      must_fail("nested is NULL");
      return;
  }
}

// A code that no quantizer may take. Dequantizers take any.
void HostileCall::mutate_code(size_t index) {
  if (!is_cpu(device_)) return;  // the host cannot see it, and the results are anything
  conformance::Tensor &tensor = subjects_[index].tensor;
  const bool code = std::strstr(tensor.name, "code") || std::strstr(tensor.name, "qmap");
  if (!code || tensor.content.size() != 1024) return;
  const int64_t edges[] = {0, 255, random_.below(255), random_.below(255)};
  const int64_t at = edges[random_.below(4)];
  float values[256];
  std::memcpy(values, tensor.content.data(), sizeof values);
  const float poison[] = {kNaN, kInfinity, -kInfinity, -kNaN};
  values[at] = at == 255 || random_.one_in(2) ? any_of(random_, poison) : std::nextafter(values[at + 1], kInfinity);
  std::memcpy(tensor.content.data(), values, sizeof values);
  if (is("cquantize") || is("coptimizer")) must_fail("the code is not ascending and finite");
}

}  // namespace fuzz
