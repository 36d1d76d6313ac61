// SPDX-License-Identifier: MIT
// A right call of every operation of bnb.h, for tests that are not about numbers: what happens in a strange
// environment, to wrong descriptors, on many threads.
#ifndef TESTS_CONFORMANCE_SAMPLES_H_
#define TESTS_CONFORMANCE_SAMPLES_H_

#include "codes.h"

namespace conformance {

// The arguments of operations that are no tensors; each operation reads the ones it has.
struct Scalars {
  int64_t blocksize, nested_blocksize;
  int32_t quant_type;
  float threshold;
  bool nested;  // whether the bnb_nested is there
};

struct Sample {
  const char *function;
  std::vector<Tensor> tensors;  // in the order in which `call` wants them; NULL is passed on
  Scalars scalars;
  bnb_status (*call)(DLTensor *const *tensors, const Scalars &scalars);
};

// One of every operation, with random sizes of about up to n elements, dtypes and contents.
std::vector<Sample> samples(int64_t n, Random &random);

inline Call call_of(const Sample &sample) {
  Call call;
  call.tensors = sample.tensors;
  call.invoke = [call = sample.call, scalars = sample.scalars](DLTensor *const *t) { return call(t, scalars); };
  return call;
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SAMPLES_H_
