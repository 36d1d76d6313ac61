// SPDX-License-Identifier: MIT
// bitsandbytes' names for optimizer steps. None is in this version: the symbols exist and say so. A family that becomes
// real replaces not_in_this_version here.
#include "api/bitsandbytes_call.h"

using namespace bnb::api;

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter"  // what cannot be done yet looks at nothing
#endif

#define BNB_DEFINE(family, suffix, T)                                      \
  bnb_status c##family##32bit_grad_##suffix(BNB_ARGS_OPTIMIZER_32BIT(T)) { \
    return not_in_this_version("c" #family "32bit_grad_" #suffix);         \
  }
BNB_OPTIMIZERS_32BIT(BNB_DEFINE)
#undef BNB_DEFINE

#define BNB_DEFINE(family, suffix, T)                                               \
  bnb_status c##family##_8bit_blockwise_grad_##suffix(BNB_ARGS_OPTIMIZER_8BIT(T)) { \
    return not_in_this_version("c" #family "_8bit_blockwise_grad_" #suffix);        \
  }
BNB_OPTIMIZERS_8BIT(BNB_DEFINE)
#undef BNB_DEFINE
