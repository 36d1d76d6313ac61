// SPDX-License-Identifier: MIT
// The kernel table of one instruction set. Tables come from reference/ and, once per ISA, from cpu/kernels/.
#ifndef BNB_CPU_KERNELS_H_
#define BNB_CPU_KERNELS_H_

#include "core/ops.h"
#include "core/optimizer.h"
#include "core/sums.h"
#include "cpu/code_search.h"

namespace bnb::cpu {

// The first half of every blockwise quantizer: the scale of each block. The second half turns elements into codes, so that one
// block may be the work of several threads.
struct AbsmaxArgs {
  DType dtype;           // of a: a float dtype
  const void *a;         // [n]
  int64_t n, blocksize;
  float subtract;        // taken off every element first
  float divisor;         // absmax[b] = max |a - subtract| / divisor; 1 for most formats
  void *absmax;          // fp32 [nb]
};

// The same for scales that are means of |a| (core/sums.h). Blocks are at most a section: larger ones are sections, whose sums are
// added up outside.
struct AbsmeanArgs {
  DType dtype;           // of a: a float dtype
  const void *a;         // [n]
  int64_t n, blocksize;  // blocksize or n <= kSumSection
  void *mean;            // fp32 [nb] or NULL
  double *sums;          // [nb] or NULL
};

struct QuantizeBlockwiseKernelArgs : QuantizeBlockwiseArgs {
  const CodeSearch *search;  // made from `code`, once per call
};

struct SumSquaresArgs : FloatArray {
  double *sums;  // one per section
};

// One tensor of an optimizer's list.
struct OptimizerKernelArgs : OptimizerTensor {
  bnb_optimizer optimizer;
  OptimizerFactors factors;
  bool skip_zeros, skip_nonfinite;     // elements with such gradients stay what they are
  int64_t blocksize;                   // 8-bit
  const CodeSearch *search1, *search2; // 8-bit, made from qmap1 and qmap2
  int32_t *found_nonfinite;            // set to 1 (atomically) if a gradient is NaN or infinite
  double *sums;                        // measuring: of the squared directions, one per section
};

// What the kernels of a product get.
template <typename Args>
struct ProductArgs : Args {
  int64_t unit_columns;  // of out, from the plan
  char *packed;          // the activations as the method packs them, once per call
  char *scratch;         // memory of this thread's own
};
using GemmKernelArgs = ProductArgs<GemmArgs>;
using GemmInt8KernelArgs = ProductArgs<GemmInt8Args>;
using GemmTernaryKernelArgs = ProductArgs<GemmTernaryArgs>;

// How a method goes about a product, of whatever weights.
struct ProductPlan {
  int64_t units, unit_cost;             // the work of multiply(); what a unit costs, in bytes read or what takes as long
  int64_t pack_units, pack_unit_cost;   // the work of pack(), if there is any
  int64_t packed_bytes, scratch_bytes;  // scratch: per thread
  int64_t unit_columns;                 // for methods that let the number of threads decide; results must not depend on it
};

// One way to multiply. A table lists its methods in the order of preference, with a last one that fits everything, and {}.
template <typename Args>
struct ProductMethod {
  const char *name;
  bool (*fits)(const Args &);
  ProductPlan (*plan)(const Args &, int threads);
  void (*pack)(const ProductArgs<Args> &, int64_t begin, int64_t end);
  void (*multiply)(const ProductArgs<Args> &, int64_t begin, int64_t end);
};
using GemmMethod = ProductMethod<GemmArgs>;
using GemmInt8Method = ProductMethod<GemmInt8Args>;
using GemmTernaryMethod = ProductMethod<GemmTernaryArgs>;

// A sparse product, the values of each row of S one behind the other.
struct GemmCooKernelArgs : GemmCooArgs {
  const int64_t *row_starts;  // [m + 1]
  const int32_t *columns;     // [nnz]: rows of b; or of its columns in the order of used_columns, if transposed_b
  const float *factors;       // [nnz]: values, scaled
  const int32_t *used_columns;  // transposed_b: [used] the columns of b that the product needs
  int64_t used;
  int64_t unit_rows;  // rows of out in a unit, which has kCooColumns columns; units run along rows of out
  float *scratch;     // transposed_b: [used, kCooColumns], of this thread's own
};
constexpr int64_t kCooColumns = 64;

struct Kernels {
#define BNB_KERNEL(kernel, Args, units) void (*kernel)(const Args &, int64_t begin, int64_t end);
#include "cpu/kernels.inc"
#undef BNB_KERNEL
#define BNB_PRODUCT(product, Method, methods) const Method *product;
#include "cpu/products.inc"
#undef BNB_PRODUCT
};

}  // namespace bnb::cpu

#endif  // BNB_CPU_KERNELS_H_
