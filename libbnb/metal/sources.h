// SPDX-License-Identifier: MIT
// The kernels as text, for the compiler that is part of the operating system: what libbnb/metal/embed.py makes of kernels/*.metal.
#ifndef BNB_METAL_SOURCES_H_
#define BNB_METAL_SOURCES_H_

#include "metal/device.h"

namespace bnb::metal {

extern const Source kSources[];
extern const int kSourceCount;

}  // namespace bnb::metal

#endif  // BNB_METAL_SOURCES_H_
