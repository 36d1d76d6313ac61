// SPDX-License-Identifier: MIT
// Validation of a sparse product's arguments, for cgemm_coo and for bitsandbytes' names of it.
#ifndef BNB_API_GEMM_COO_H_
#define BNB_API_GEMM_COO_H_

#include "api/check.h"

namespace bnb::api {

// What the caller knows the tensors as.
struct CooNames {
  const char *rowidx = "rowidx", *colidx = "colidx", *values = "values", *col_stats = "col_stats", *out = "out";
};

struct CooTensors {
  CooNames names;
  const DLTensor *rowidx, *colidx, *values, *values_scale, *b, *col_stats;
  int32_t transposed_b;
  DLTensor *out;
};

GemmCooArgs check_coo(Check &check, const CooTensors &tensors);

}  // namespace bnb::api

#endif  // BNB_API_GEMM_COO_H_
