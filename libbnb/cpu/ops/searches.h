// SPDX-License-Identifier: MIT
// The code searches of a list of tensors, which mostly share their codes.
#ifndef BNB_CPU_OPS_SEARCHES_H_
#define BNB_CPU_OPS_SEARCHES_H_

#include "cpu/code_search.h"

namespace bnb::cpu {

class Searches {
 public:
  Searches() = default;
  ~Searches();
  Searches(const Searches &) = delete;
  Searches &operator=(const Searches &) = delete;

  const CodeSearch *of(const void *code);  // fp32 [256], ascending; NULL if there is no memory

 private:
  struct Made;
  Made *made_ = nullptr;
  const void *last_code_[2] = {};  // optimizers alternate between two codes
  const CodeSearch *last_search_[2] = {};
  int oldest_ = 0;
};

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_SEARCHES_H_
