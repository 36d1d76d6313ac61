// SPDX-License-Identifier: MIT
// Optimizer states in 8 bits: what their codes mean, their new absmax, and the codes of new states.
#ifndef BNB_METAL_KERNELS_OPTIMIZER_CODES_H_
#define BNB_METAL_KERNELS_OPTIMIZER_CODES_H_

#include "metal/kernels/nearest_code.h"
#include "metal/kernels/optimizer_step.h"
#include "metal/kernels/quantize_blocks.h"

namespace bnb {
namespace kernels {

static_assert(int(kStepThreads) == int(kCodes), "each thread fills the entry of one code");

// Sizes of threadgroup memory for the code of second moments.
template <int kOptimizer>
struct SecondCode {
  enum : int {
    kValues = Formula<kOptimizer>::kSecond ? kCodes : 1,
    kTable = Formula<kOptimizer>::kSecond ? kBucketWords : 1
  };
};

// Where states are: codes, and their blocks' absmax.
struct CodedStates {
  device uchar *state1;
  device uchar *state2;
  device uchar *absmax1;
  device uchar *absmax2;
};

// Numbers of a block, one for each of its states.
typedef StepState Absmax;

template <int kOptimizer>
inline Absmax load_absmax(constant StepArgs &args, CodedStates at, long block) {
  const bool aligned = args.aligned_absmax != 0;
  const Absmax absmax = {load_f32(at.absmax1, aligned, block), Formula<kOptimizer>::kSecond ? load_f32(at.absmax2, aligned, block) : 0.0f,
                         Formula<kOptimizer>::kSlow ? load_f32(at.absmax1, aligned, args.blocks + block) : 0.0f};
  return absmax;
}
template <int kOptimizer>
inline void store_absmax(constant StepArgs &args, CodedStates at, long block, Absmax absmax) {
  const bool aligned = args.aligned_absmax != 0;
  store_f32(at.absmax1, aligned, block, absmax.first);
  if (Formula<kOptimizer>::kSecond) store_f32(at.absmax2, aligned, block, absmax.second);
  if (Formula<kOptimizer>::kSlow) store_f32(at.absmax1, aligned, args.blocks + block, absmax.slow);
}

// The codes of a thread's items.
struct CodesOfItems {
  uchar first[kStepItems], second[kStepItems], slow[kStepItems];
};

template <int kOptimizer>
inline void load_codes(constant StepArgs &args, CodedStates at, long i, long count, thread CodesOfItems &codes) {
  load_bytes<kStepItems>(at.state1, args.aligned_states != 0, i, count, codes.first);
  if (Formula<kOptimizer>::kSecond) load_bytes<kStepItems>(at.state2, args.aligned_states != 0, i, count, codes.second);
  if (Formula<kOptimizer>::kSlow) load_bytes<kStepItems>(at.state1 + args.n, args.aligned_slow != 0, i, count, codes.slow);
}
template <int kOptimizer>
inline void store_codes(constant StepArgs &args, CodedStates at, long i, long count, thread const CodesOfItems &codes) {
  store_bytes<kStepItems>(at.state1, args.aligned_states != 0, i, count, codes.first);
  if (Formula<kOptimizer>::kSecond) store_bytes<kStepItems>(at.state2, args.aligned_states != 0, i, count, codes.second);
  if (Formula<kOptimizer>::kSlow) store_bytes<kStepItems>(at.state1 + args.n, args.aligned_slow != 0, i, count, codes.slow);
}

// What codes mean.
struct Maps {
  threadgroup const float *first;
  threadgroup const float *second;
};
template <int kOptimizer>
inline StepState decode_state(Maps maps, uchar first, uchar second, uchar slow, Absmax absmax) {
  const StepState state = {ieee::multiply(maps.first[first], absmax.first),
                           Formula<kOptimizer>::kSecond ? ieee::multiply(maps.second[second], absmax.second) : 0.0f,
                           Formula<kOptimizer>::kSlow ? ieee::multiply(maps.first[slow], absmax.slow) : 0.0f};
  return state;
}

// Blocks as a thread's items meet them: how many of its items come before the next one.
inline int items_before_end(constant StepArgs &args, long i, long block) {
  const long left = (block + 1) * args.blocksize.value - i;
  return left < kStepItems ? int(left) : int(kStepItems);
}

// Items of any blocks.
template <int kOptimizer>
inline void decode_items(constant StepArgs &args, CodedStates at, Maps maps, long i, long count, thread const CodesOfItems &codes,
                         thread StepState *states) {
  long block = quotient(i, args.blocksize);
  int end = items_before_end(args, i, block);
  Absmax absmax = load_absmax<kOptimizer>(args, at, block);
  BNB_UNROLL
  for (int j = 0; j < kStepItems; ++j) {
    if (j == end && j < count) {
      absmax = load_absmax<kOptimizer>(args, at, ++block);
      end = items_before_end(args, i, block);
    }
    states[j] = decode_state<kOptimizer>(maps, codes.first[j], codes.second[j], codes.slow[j], absmax);
  }
}

// How the codes of one of the states are found again.
struct CodeTable {
  threadgroup const int *midpoints;
  threadgroup const uint *below;
  bool dense;  // somewhere: look_up_code() does not know all
};
struct CodeTables {
  CodeTable first, second;
};
// Whether one of the threads that filled a table found it dense. marks: of simdgroups.
inline bool any_mark(threadgroup const uint *marks) {
  uint any = 0;
  for (int i = 0; i < kStepThreads / kLanes; ++i) any |= marks[i];
  return any != 0;
}

// The states of one block as codes.
struct StateEncoder {
  Normaliser by;
  bool usual;

  inline uchar encode(CodeTable table, float x) const {
    if (usual) return uchar(look_up_code(table.midpoints, table.below, ieee::multiply(x, by.reciprocal)));
    return uchar(search_code(table.midpoints, by.unit(x, 1.0f)));
  }
};
inline StateEncoder state_encoder(CodeTable table, float absmax) {
  const Normaliser by = normaliser(absmax);
  const StateEncoder made = {by, !table.dense && bits_from_float(by.reciprocal) - 1u < kInfinityBits - 1u};
  return made;
}
template <int kOptimizer>
struct StateEncoders {
  StateEncoder first, second, slow;

  inline void use(CodeTables tables, Absmax absmax) {
    first = state_encoder(tables.first, absmax.first);
    if (Formula<kOptimizer>::kSecond) second = state_encoder(tables.second, absmax.second);
    if (Formula<kOptimizer>::kSlow) slow = state_encoder(tables.first, absmax.slow);
  }
  inline void encode(CodeTables tables, StepState state, int j, thread CodesOfItems &codes) const {
    codes.first[j] = first.encode(tables.first, state.first);
    if (Formula<kOptimizer>::kSecond) codes.second[j] = second.encode(tables.second, state.second);
    if (Formula<kOptimizer>::kSlow) codes.slow[j] = slow.encode(tables.first, state.slow);
  }
};

// Bits of the largest magnitudes, and whether an element moved. The bits of a NaN are above infinity's.
struct Largest {
  uint first, second, slow, moved;

  inline void clear() { first = second = slow = moved = 0; }
  template <int kOptimizer>
  inline void add(StepState state, uint moved_too) {
    first = max(first, bits_from_float(state.first) & ~uint(kSignBit));
    if (Formula<kOptimizer>::kSecond) second = max(second, bits_from_float(state.second) & ~uint(kSignBit));
    if (Formula<kOptimizer>::kSlow) slow = max(slow, bits_from_float(state.slow) & ~uint(kSignBit));
    moved |= moved_too;
  }
  inline Absmax absmax() const {  // with one NaN only
    const Absmax made = {float_from_bits(magnitude_bits(float_from_bits(first))), float_from_bits(magnitude_bits(float_from_bits(second))),
                         float_from_bits(magnitude_bits(float_from_bits(slow)))};
    return made;
  }
};

}  // namespace kernels
}  // namespace bnb

#endif  // BNB_METAL_KERNELS_OPTIMIZER_CODES_H_
