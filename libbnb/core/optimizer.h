// SPDX-License-Identifier: MIT
// The optimizers as backends see them: argument structs without descriptors, and the numbers of a step
// (docs/optimizers.md).
#ifndef BNB_CORE_OPTIMIZER_H_
#define BNB_CORE_OPTIMIZER_H_

#include <bnb/bnb.h>

#include "core/dtype.h"
#include "core/sums.h"

namespace bnb {

// One entry of bnb_optimizer_tensors. What the optimizer does not use is NULL.
struct OptimizerTensor {
  DType g_dtype, p_dtype;     // float dtypes
  const void *g;              // [n]
  void *p;                    // [n]
  void *state1, *state2;      // fp32 or uint8 [n]; state1 of AdEMAMix [2, n]
  void *absmax1, *absmax2;    // 8-bit: fp32 [nb]; absmax1 of AdEMAMix [2, nb]
  const void *qmap1, *qmap2;  // 8-bit: fp32 [256], ascending
  void *unorm;                // fp32 [1] or NULL
  double param_norm;          // 0: to be measured if it is needed
  int64_t n, step;
};

struct OptimizerUpdateArgs {
  bnb_optimizer_config config;  // its optimizer is not LAMB or LARS but what they stand on; its tensors are these two:
  const void *scale;            // fp32 [1] or NULL
  void *found_inf;              // fp32 [1] or NULL
  const OptimizerTensor *tensors;
  int64_t count;
  int64_t blocksize;  // 8-bit only
};

struct FloatArray {
  DType dtype;  // a float dtype
  const void *data;
  int64_t n;
};

struct MeasureNormsArgs {
  const FloatArray *tensors;
  int64_t count;
  DType norms_dtype, total_dtype;  // fp32 or float64
  void *norms;                     // [count] or NULL
  void *total;                     // [1] or NULL
  void *found_inf;                 // fp32 [1] or NULL
};

// The constants of one step of one tensor. Computed in double, each rounded once; the formulas are in
// reference/optimizer.cc.
struct OptimizerFactors {
  float gnorm_scale;
  float coupled_decay;  // times p, added to the gradient; 0 if there is none
  float kept;           // p * kept: decoupled decay; 1 if there is none
  float beta1, rest1;   // rest = 1 - beta
  float beta2, rest2;
  float beta3, rest3;
  float mix1, mix3;  // AdEMAMix: weights of the fast and the slow average
  float eps;
  float step_size;  // p + step_size * direction
  bool first_step;
};

// What the configuration and a step make of these, before anything is known that is in the device's memory: a host makes
// them, who finishes them is where that memory can be read.
struct OptimizerNumbers {
  OptimizerFactors factors;  // gnorm_scale and step_size are missing
  double gnorm_scale;        // to be multiplied by the tensor config.scale
  double bias_correction;    // what step_size and the norm of the update have of it
  double step_size;          // to be multiplied by what max_unorm makes of the update
};
OptimizerNumbers make_numbers(const bnb_optimizer_config &config, int64_t step);

// scale: the value of the tensor of that name, 1 if there is none. update_scale: 1, or what max_unorm makes of it.
BNB_INLINE OptimizerFactors make_factors(const OptimizerNumbers &numbers, double scale, double update_scale) {
  OptimizerFactors factors = numbers.factors;
  factors.gnorm_scale = float(numbers.gnorm_scale * scale);
  factors.step_size = float(numbers.step_size * update_scale);
  return factors;
}

// The norm of an update. root: of the sum of squared directions.
BNB_INLINE double update_norm(const OptimizerNumbers &numbers, double root) { return root * numbers.bias_correction; }

// What the update is multiplied by so that its norm is at most max_unorm * param_norm. A parameter of zeros is not held
// at zero.
BNB_INLINE double update_scale(double max_unorm, double param_norm, double update_norm) {
  const double limit = max_unorm * param_norm;
  return limit > 0.0 && update_norm > limit ? limit / update_norm : 1.0;
}

}  // namespace bnb

#endif  // BNB_CORE_OPTIMIZER_H_
