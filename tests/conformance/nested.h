// SPDX-License-Identifier: MIT
// Compressed scales as inputs of a call.
#ifndef TESTS_CONFORMANCE_NESTED_H_
#define TESTS_CONFORMANCE_NESTED_H_

#include "codes.h"

namespace conformance {

struct NestedInputs {
  int codes, code, absmax, offset;  // tensors of the call
  int64_t blocksize;

  bnb_nested describe(DLTensor *const *t) const { return {t[code], t[absmax], t[offset], blocksize}; }
};

// n scales with random codes; `name` is what the operation calls the codes.
inline NestedInputs add_nested(Call &call, const char *name, int64_t n, int64_t blocksize, Random &random) {
  NestedInputs nested{};
  const Code code = kAllCodes[random.below(int64_t(std::size(kAllCodes)))];
  nested.blocksize = blocksize;
  nested.codes = call.input(name, kU8, {n}, random_bytes(n, random));
  nested.code = call.input("nested.code", kF32, {256}, bytes_of(values_of(code, random)));
  nested.absmax =
      call.input("nested.absmax", kF32, {ceil_div(n, blocksize)}, bytes_of(scales(ceil_div(n, blocksize), random)));
  nested.offset = call.input("nested.offset", kF32, {}, bytes_of(std::vector<float>{random.normal()}));
  return nested;
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_NESTED_H_
