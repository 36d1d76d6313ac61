// SPDX-License-Identifier: MIT
// Pipelines by the name of their function, compiled at first use and kept.
#ifndef BNB_METAL_PIPELINES_H_
#define BNB_METAL_PIPELINES_H_

#include "metal/device.h"

namespace bnb::metal {

constexpr int kFunctionName = 96;  // bytes of the longest name, its file's included

// file: a kernel file without its ending.
bnb_status find_pipeline(int32_t device, const char *file, const char *function, void **pipeline);

// The kernel file of that name, or of that text; NULL and a status whose text is stored if there is none.
const Source *find_source(const char *file);
const Source *find_source_of_text(const char *text);

}  // namespace bnb::metal

#endif  // BNB_METAL_PIPELINES_H_
