// SPDX-License-Identifier: MIT
// Validation of codes and scales of MX and NVFP4, for the functions that write them and those that read them.
#ifndef BNB_API_MX_H_
#define BNB_API_MX_H_

#include "api/check.h"

namespace bnb::api {

struct MxFormat {
  bnb_quant_type quant_type;
  int64_t blocksize;      // elements
  int64_t codes_a_byte;   // and per item of an array of codes
  uint32_t code_dtypes;   // that codes may come in: plain bytes, or what they are
  uint32_t scale_dtypes;  // and scales
  ScaleKind scale_kind;
};

// The format of a quant_type; of a wrong one, any.
const MxFormat &check_quant_type_mx(Check &check, bnb_quant_type quant_type);

// That rows of `cols` elements are whole blocks.
void check_mx_rows(Check &check, const MxFormat &format, const char *name, int64_t cols);

// Codes of n elements.
void check_mx_codes(Check &check, const MxFormat &format, const char *name, const View &codes, int64_t n);

// The scales of n elements. tensor_scale may be NULL.
AbsmaxView check_mx_scales(Check &check, const MxFormat &format, const DLTensor *scale, const DLTensor *tensor_scale,
                           int64_t n);

}  // namespace bnb::api

#endif  // BNB_API_MX_H_
