/* SPDX-License-Identifier: MIT */
/* Our headers and the original DLPack header in one file, in either order: no redefinition, one DLTensor. */
#ifdef ORIGINAL_BEFORE
#include "original_dlpack.h"
#endif

#include <bnb/bitsandbytes.h>
#include <bnb/bnb.h>

#ifdef ORIGINAL_AFTER
#include "original_dlpack.h"
#endif

bnb_status bnb_headers_use(DLTensor *tensor);
bnb_status bnb_headers_use(DLTensor *tensor) {
  tensor->device.device_type = kDLCPU;
  tensor->dtype.code = kDLFloat;
  return cquantize_4bit(tensor, BNB_NF4, 64, tensor, tensor, 0);
}
