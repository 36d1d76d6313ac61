/* SPDX-License-Identifier: MIT */
/* Everything that the Python package declares to cffi; python/meson.build preprocesses it with BNB_CDEF defined. */
#include <bnb/bnb.h>
#include <bnb/bitsandbytes.h>
#include <bnb/metal.h>
#include <bnb/workspace.h>
