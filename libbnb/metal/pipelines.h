// SPDX-License-Identifier: MIT
// Pipelines by the name of their function, compiled at first use and kept.
#ifndef BNB_METAL_PIPELINES_H_
#define BNB_METAL_PIPELINES_H_

#include "metal/device.h"

namespace bnb::metal {

constexpr int kFunctionName = 96;  // bytes of the longest name, its file's included

// file: a kernel file without its ending.
bnb_status find_pipeline(int32_t device, const char *file, const char *function, void **pipeline);

}  // namespace bnb::metal

#endif  // BNB_METAL_PIPELINES_H_
