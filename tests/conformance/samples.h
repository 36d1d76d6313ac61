// SPDX-License-Identifier: MIT
// A right call of every operation of bnb.h, for tests that are not about numbers: what happens in a strange
// environment, to wrong descriptors, on many threads.
#ifndef TESTS_CONFORMANCE_SAMPLES_H_
#define TESTS_CONFORMANCE_SAMPLES_H_

#include "codes.h"

namespace conformance {

// The arguments of operations that are no tensors.
struct Scalars {
  int64_t blocksize = 1, nested_blocksize = 1;
  int32_t kind = 0;        // quant_type, or the optimizer
  float threshold = 0.0f;  // of outliers, or the learning rate
  bool nested = false;     // whether the bnb_nested is there
};

// Which of them an operation has.
struct Uses {
  int64_t blocksize = 0;         // 0: none; else what it must be a multiple of
  int32_t first = 0, last = -1;  // the values of `kind`, if there are any
  bool threshold = false;
  bool strided_rows = false;  // matrices called A and out
  bool strided_weights = false;  // and those called B, CA and CB
  bool free_sizes = false;    // inputs of any size, which no other tensor has to agree with
  bool exact = true;          // the same bits on every instruction set
};

struct Sample {
  const char *function;
  std::vector<Tensor> tensors;  // in the order in which `call` wants them; NULL is passed on
  Scalars scalars;
  Uses uses;
  bnb_status (*call)(DLTensor *const *tensors, const Scalars &scalars);
};

// Whether NULL is as good as a tensor of this name.
bool is_optional(const Tensor &tensor);

// The i-th operation with random sizes of about up to n elements, dtypes and contents.
int sample_count();
Sample sample(int index, int64_t n, Random &random);

// One of every operation.
std::vector<Sample> samples(int64_t n, Random &random);

inline Call call_of(const Sample &sample) {
  Call call;
  call.tensors = sample.tensors;
  call.invoke = [call = sample.call, scalars = sample.scalars](DLTensor *const *t) { return call(t, scalars); };
  return call;
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SAMPLES_H_
