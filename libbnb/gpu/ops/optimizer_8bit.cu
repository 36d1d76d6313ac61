// SPDX-License-Identifier: MIT
// Optimizer steps with states in 8 bits, blockwise. EXACT.
//
// Blocks of a power of two of elements, 8 to kStepPiece, are the work of a team of threads that has eight elements of each in
// registers: states are looked up, advanced and, when their new absmax is known, encoded, with one read and one write of
// everything. An element of Adam in bf16 moves 10 bytes, for which an H200 has time for some 60 instructions: hence one exchange
// within the team per state, and codes by look-up. Other block sizes take three kernels: new absmax to a workspace, by atomics;
// then the step, states being advanced a second time; then the absmax to their place.
#include "gpu/nearest_code.h"
#include "gpu/ops.h"
#include "gpu/optimizer_step.h"
#include "gpu/quantize_blocks.h"

namespace bnb::gpu {
namespace {

constexpr int kRows = int(kStepPiece) / kRowElements;
constexpr int kTeamElements = kRows * kFour;  // of a thread
constexpr int kPerMultiprocessor = 8;

using Codes = Items<uint8_t, kFour>;

struct Absmax {
  float first = 0.0f, second = 0.0f, slow = 0.0f;
};

template <bnb_optimizer kOptimizer>
BNB_DEVICE Absmax load_absmax(const StepTensor &tensor, int64_t block, int64_t blocks) {
  Absmax absmax;
  absmax.first = load<float>(tensor.absmax1, block);
  if constexpr (Formula<kOptimizer>::kSecond) absmax.second = load<float>(tensor.absmax2, block);
  if constexpr (Formula<kOptimizer>::kSlow) absmax.slow = load<float>(tensor.absmax1, blocks + block);
  return absmax;
}

template <bnb_optimizer kOptimizer>
BNB_DEVICE void store_absmax(const StepTensor &tensor, int64_t block, int64_t blocks, const Absmax &absmax) {
  store<float>(tensor.absmax1, block, absmax.first);
  if constexpr (Formula<kOptimizer>::kSecond) store<float>(tensor.absmax2, block, absmax.second);
  if constexpr (Formula<kOptimizer>::kSlow) store<float>(tensor.absmax1, blocks + block, absmax.slow);
}

// The codes of four elements.
struct CodesOfStates {
  Codes first{}, second{}, slow{};
};

template <bnb_optimizer kOptimizer>
BNB_DEVICE CodesOfStates load_codes(const StepTensor &tensor, int64_t i, int64_t count) {
  CodesOfStates codes;
  codes.first = load_some<uint8_t>(tensor.state1, i, count);
  if constexpr (Formula<kOptimizer>::kSecond) codes.second = load_some<uint8_t>(tensor.state2, i, count);
  if constexpr (Formula<kOptimizer>::kSlow) codes.slow = load_some<uint8_t>(tensor.state1, tensor.n + i, count);
  return codes;
}

template <bnb_optimizer kOptimizer>
BNB_DEVICE void store_codes(const StepTensor &tensor, int64_t i, int64_t count, const CodesOfStates &codes) {
  store_some<uint8_t>(tensor.state1, i, count, codes.first);
  if constexpr (Formula<kOptimizer>::kSecond) store_some<uint8_t>(tensor.state2, i, count, codes.second);
  if constexpr (Formula<kOptimizer>::kSlow) store_some<uint8_t>(tensor.state1, tensor.n + i, count, codes.slow);
}

// What the codes of a tensor mean: in shared memory, until a tensor comes that has others.
class Maps {
 public:
  struct Shared {
    float first[256], second[256];
  };
  BNB_DEVICE_METHOD explicit Maps(Shared &shared) : shared_(shared) {}

  BNB_DEVICE_METHOD bool knows(const StepTensor &tensor) const {
    return tensor.qmap1 == first_ && tensor.qmap2 == second_;
  }
  // All threads, with a barrier before and after.
  BNB_DEVICE_METHOD void fill(const StepTensor &tensor) {
    for (int i = int(thread_index()); i < 256; i += int(thread_count())) {
      shared_.first[i] = load<float>(tensor.qmap1, i);
      if (tensor.qmap2) shared_.second[i] = load<float>(tensor.qmap2, i);
    }
    first_ = tensor.qmap1;
    second_ = tensor.qmap2;
  }

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD StepState decode(const CodesOfStates &codes, int j, const Absmax &absmax) const {
    StepState state;
    state.first = shared_.first[codes.first.at[j]] * absmax.first;
    if constexpr (Formula<kOptimizer>::kSecond) state.second = shared_.second[codes.second.at[j]] * absmax.second;
    if constexpr (Formula<kOptimizer>::kSlow) state.slow = shared_.first[codes.slow.at[j]] * absmax.slow;
    return state;
  }

 private:
  Shared &shared_;
  const void *first_ = nullptr, *second_ = nullptr;
};

// The maps, and the way back.
template <bool kSecond>
struct Searches {
  Maps::Shared maps;
  NearestCode nearest[kSecond ? 2 : 1];

  BNB_DEVICE_METHOD void use(const StepTensor &tensor, Maps &known) {
    if (known.knows(tensor)) return;
    barrier();  // nobody looks into the old ones any more
    known.fill(tensor);
    nearest[0].fill(tensor.qmap1);
    if constexpr (kSecond) nearest[1].fill(tensor.qmap2);
    barrier();
  }
};

// The codes of four states of one block.
BNB_DEVICE Codes encode(const NearestCode &nearest, float absmax, const float *x) {
  Codes codes;
  const float reciprocal = 1.0f / absmax;
  if (reciprocal > 0.0f && reciprocal < formats::float_from_bits(kInfinityBits) && !nearest.dense) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) codes.at[j] = uint8_t(nearest.look_up(x[j] * reciprocal));
  } else {
    const Normaliser unit(absmax);
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) codes.at[j] = uint8_t(nearest.search(unit(x[j])));
  }
  return codes;
}

template <bnb_optimizer kOptimizer>
BNB_DEVICE CodesOfStates encode_states(const Searches<Formula<kOptimizer>::kSecond> &searches, const Absmax &absmax,
                                       const StepState *states) {
  CodesOfStates codes;
  float x[kFour];
  BNB_UNROLL
  for (int j = 0; j < kFour; ++j) x[j] = states[j].first;
  codes.first = encode(searches.nearest[0], absmax.first, x);
  if constexpr (Formula<kOptimizer>::kSecond) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) x[j] = states[j].second;
    codes.second = encode(searches.nearest[1], absmax.second, x);
  }
  if constexpr (Formula<kOptimizer>::kSlow) {
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) x[j] = states[j].slow;
    codes.slow = encode(searches.nearest[0], absmax.slow, x);
  }
  return codes;
}

template <bnb_optimizer kOptimizer>
BNB_DEVICE void store_code(const StepTensor &tensor, int64_t i, const Searches<Formula<kOptimizer>::kSecond> &searches,
                           const Absmax &absmax, const StepState &state) {
  const auto code = [&](int which, float absmax, float x) {
    return uint8_t(searches.nearest[which].search(Normaliser(absmax)(x)));
  };
  store<uint8_t>(tensor.state1, i, code(0, absmax.first, state.first));
  if constexpr (Formula<kOptimizer>::kSecond) store<uint8_t>(tensor.state2, i, code(1, absmax.second, state.second));
  if constexpr (Formula<kOptimizer>::kSlow) store<uint8_t>(tensor.state1, tensor.n + i, code(0, absmax.slow, state.slow));
}

// Bits of the largest magnitudes, and whether an element moved.
struct Largest {
  uint32_t first = 0, second = 0, slow = 0, moved = 0;

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void add(const StepState &state, bool moved_too) {
    raise(&first, magnitude_bits(state.first));
    if constexpr (Formula<kOptimizer>::kSecond) raise(&second, magnitude_bits(state.second));
    if constexpr (Formula<kOptimizer>::kSlow) raise(&slow, magnitude_bits(state.slow));
    moved |= uint32_t(moved_too);
  }
  // Of `threads` neighbouring threads.
  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void gather(int threads, bool skips, uint32_t *maxima) {
    first = largest_among(first, threads, maxima);
    if constexpr (Formula<kOptimizer>::kSecond) second = largest_among(second, threads, maxima);
    if constexpr (Formula<kOptimizer>::kSlow) slow = largest_among(slow, threads, maxima);
    if (skips) moved = largest_among(moved, threads, maxima);
  }
  BNB_DEVICE_METHOD Absmax absmax() const {
    return {formats::float_from_bits(first), formats::float_from_bits(second), formats::float_from_bits(slow)};
  }

 private:
  BNB_DEVICE_METHOD static void raise(uint32_t *largest, uint32_t bits) { *largest = bits > *largest ? bits : *largest; }
};

// Blocks of a power of two of elements: kTeamElements for each thread of a team.
template <bnb_optimizer kOptimizer>
BNB_KERNEL void BNB_THREADS(kStepThreads) update_regular(StepBatch batch, Divisor blocksize) {
  BNB_SHARED Searches<Formula<kOptimizer>::kSecond> searches;
  BNB_SHARED uint32_t maxima[kStepThreads / 32];
  if (is_stopped(batch)) return;
  Maps maps(searches.maps);
  const int team = int(blocksize.value) / kTeamElements, member = int(thread_index()) & (team - 1);
  const int offset = (int(thread_index()) - member) * kTeamElements + member * kFour;
  const bool skips = batch.skip_zeros || batch.skip_nonfinite;
  bool found_nonfinite = false;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const Step<kOptimizer> step(batch, t);
    searches.use(tensor, maps);
    const int64_t first = (piece - batch.first_piece[t]) * kStepPiece + offset;
    const int64_t block = blocksize.of(first), blocks = blocksize.of(tensor.n - 1) + 1;
    const bool exists = first < tensor.n;
    RawFour raw_g[kRows], raw_p[kRows];
    CodesOfStates codes[kRows];
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour, count = tensor.n - i;
      raw_g[row] = load_four(tensor.g_dtype, tensor.g, i, count);
      raw_p[row] = load_four(tensor.p_dtype, tensor.p, i, count);
      codes[row] = load_codes<kOptimizer>(tensor, i, count);
    }
    const Absmax old = exists ? load_absmax<kOptimizer>(tensor, block, blocks) : Absmax{};
    Largest largest;
    StepState states[kRows][kFour];
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour, count = tensor.n - i;
      float g[kFour], p[kFour], directions[kFour];
      widen_four(tensor.g_dtype, raw_g[row], g);
      widen_four(tensor.p_dtype, raw_p[row], p);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) states[row][j] = maps.template decode<kOptimizer>(codes[row], j, old);
      const uint32_t moved = step(g, p, states[row], directions, &found_nonfinite);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) {
        if (j < count) largest.template add<kOptimizer>(states[row][j], moved >> j & 1);
      }
      if (moved == 0) continue;
      step.move(directions, moved, p);
      store_four(tensor.p_dtype, tensor.p, i, count, p);
    }
    largest.template gather<kOptimizer>(team, skips, maxima);
    if (!exists || largest.moved == 0) continue;
    const Absmax absmax = largest.absmax();
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour;
      store_codes<kOptimizer>(tensor, i, tensor.n - i, encode_states<kOptimizer>(searches, absmax, states[row]));
    }
    if (member == 0) store_absmax<kOptimizer>(tensor, block, blocks, absmax);
  }
  report(batch, found_nonfinite);
}

// States of blocks of any size.
class States8bit {
 public:
  using Args = Divisor;
  using Shared = Maps::Shared;

  BNB_DEVICE_METHOD States8bit(const Args &blocksize, Shared &shared) : blocksize_(blocksize), maps_(shared) {}
  BNB_DEVICE_METHOD void use(const StepTensor &tensor) {
    if (maps_.knows(tensor)) return;
    barrier();
    maps_.fill(tensor);
    barrier();
  }

  BNB_DEVICE_METHOD Maps &maps() { return maps_; }

  template <bnb_optimizer kOptimizer>
  BNB_DEVICE_METHOD void read(const StepTensor &tensor, int64_t i, int64_t count, StepState *states) const {
    const CodesOfStates codes = load_codes<kOptimizer>(tensor, i, count);
    const int64_t blocks = blocksize_.of(tensor.n - 1) + 1;
    int64_t block = blocksize_.of(i), end = (block + 1) * blocksize_.value;
    Absmax absmax = load_absmax<kOptimizer>(tensor, block, blocks);
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      if (i + j == end && j < count) {
        absmax = load_absmax<kOptimizer>(tensor, ++block, blocks);
        end += blocksize_.value;
      }
      states[j] = maps_.template decode<kOptimizer>(codes, j, absmax);
    }
  }

 private:
  const Divisor blocksize_;
  Maps maps_;
};

// The new absmax of a tensor's blocks while the old ones are needed: bits of each state's, then whether an element moved.
template <bnb_optimizer kOptimizer>
class NewAbsmax {
  using Is = Formula<kOptimizer>;

 public:
  static constexpr int kWords = 2 + Is::kSecond + Is::kSlow;  // of a block

  BNB_DEVICE_METHOD NewAbsmax(uint32_t *words, const StepTensor &tensor, const Divisor &blocksize)
      : words_(words + tensor.first_word), blocks_(blocksize.of(tensor.n - 1) + 1) {}
  BNB_DEVICE_METHOD int64_t blocks() const { return blocks_; }

  BNB_DEVICE_METHOD void raise(int64_t block, const Largest &largest) const {
    raise_to(words_ + block, largest.first);
    if constexpr (Is::kSecond) raise_to(words_ + blocks_ + block, largest.second);
    if constexpr (Is::kSlow) raise_to(words_ + 2 * blocks_ + block, largest.slow);
    raise_to(words_ + (kWords - 1) * blocks_ + block, largest.moved);
  }
  BNB_DEVICE_METHOD Absmax of(int64_t block) const {
    Absmax absmax;
    absmax.first = formats::float_from_bits(words_[block]);
    if constexpr (Is::kSecond) absmax.second = formats::float_from_bits(words_[blocks_ + block]);
    if constexpr (Is::kSlow) absmax.slow = formats::float_from_bits(words_[2 * blocks_ + block]);
    return absmax;
  }
  BNB_DEVICE_METHOD bool moved(int64_t block) const { return words_[(kWords - 1) * blocks_ + block] != 0; }

 private:
  // Looks first: large blocks would have every warp wait for its turn at one word.
  BNB_DEVICE_METHOD static void raise_to(uint32_t *word, uint32_t bits) {
    if (bits > atomic_load(word)) atomic_max(word, bits);
  }

  uint32_t *words_;
  int64_t blocks_;
};

template <bnb_optimizer kOptimizer>
BNB_KERNEL void BNB_THREADS(kStepThreads) measure_states(StepBatch batch, Divisor blocksize, uint32_t *words) {
  BNB_SHARED Maps::Shared shared;
  if (is_stopped(batch)) return;
  States8bit all(blocksize, shared);
  bool found_nonfinite = false;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const Step<kOptimizer> step(batch, t);
    const NewAbsmax<kOptimizer> made(words, tensor, blocksize);
    all.use(tensor);
    const int64_t start = (piece - batch.first_piece[t]) * kStepPiece;
    const int64_t last = tensor.n - start < kStepPiece ? tensor.n - 1 : start + kStepPiece - 1;
    const int64_t start_block = blocksize.of(start);
    const bool one_block = start_block == blocksize.of(last);
    Largest largest;
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = start + row * kRowElements + int64_t(thread_index()) * kFour, count = tensor.n - i;
      if (count <= 0) break;
      float g[kFour], p[kFour], directions[kFour];
      StepState states[kFour];
      widen_four(tensor.g_dtype, load_four(tensor.g_dtype, tensor.g, i, count), g);
      widen_four(tensor.p_dtype, load_four(tensor.p_dtype, tensor.p, i, count), p);
      all.template read<kOptimizer>(tensor, i, count, states);
      const uint32_t moved = step(g, p, states, directions, &found_nonfinite);
      int64_t block = one_block ? start_block : blocksize.of(i), end = (block + 1) * blocksize.value;
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) {
        if (j >= count) break;
        if (i + j == end) {
          made.raise(block++, largest);
          end += blocksize.value;
          largest = Largest();
        }
        largest.template add<kOptimizer>(states[j], moved >> j & 1);
      }
      if (!one_block) {
        made.raise(block, largest);
        largest = Largest();
      }
    }
    if (!one_block) continue;
    largest.template gather<kOptimizer>(kWarp, true, nullptr);
    if (lane_index() == 0) made.raise(start_block, largest);
  }
}

template <bnb_optimizer kOptimizer>
BNB_KERNEL void BNB_THREADS(kStepThreads) update_any(StepBatch batch, Divisor blocksize, uint32_t *words) {
  BNB_SHARED Searches<Formula<kOptimizer>::kSecond> searches;
  if (is_stopped(batch)) return;
  States8bit all(blocksize, searches.maps);
  bool found_nonfinite = false;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const Step<kOptimizer> step(batch, t);
    const NewAbsmax<kOptimizer> made(words, tensor, blocksize);
    searches.use(tensor, all.maps());
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = (piece - batch.first_piece[t]) * kStepPiece + row * kRowElements + int64_t(thread_index()) * kFour;
      const int64_t count = tensor.n - i;
      if (count <= 0) break;
      float g[kFour], p[kFour], directions[kFour];
      StepState states[kFour];
      widen_four(tensor.g_dtype, load_four(tensor.g_dtype, tensor.g, i, count), g);
      widen_four(tensor.p_dtype, load_four(tensor.p_dtype, tensor.p, i, count), p);
      all.template read<kOptimizer>(tensor, i, count, states);
      const uint32_t moved = step(g, p, states, directions, &found_nonfinite);
      if (moved != 0) {
        step.move(directions, moved, p);
        store_four(tensor.p_dtype, tensor.p, i, count, p);
      }
      int64_t block = blocksize.of(i);
      const int64_t end = (block + 1) * blocksize.value;
      if (end - i >= (count < kFour ? count : kFour)) {  // one block
        if (made.moved(block))
          store_codes<kOptimizer>(tensor, i, count, encode_states<kOptimizer>(searches, made.of(block), states));
        continue;
      }
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) {
        if (j >= count) break;
        block = blocksize.of(i + j);
        if (made.moved(block)) store_code<kOptimizer>(tensor, i + j, searches, made.of(block), states[j]);
      }
    }
  }
  report(batch, found_nonfinite);
}

template <bnb_optimizer kOptimizer>
BNB_KERNEL void BNB_THREADS(kStepThreads) publish_absmax(StepBatch batch, Divisor blocksize, uint32_t *words) {
  if (is_stopped(batch)) return;
  int t = 0;
  for (int64_t piece = grid_index(); piece < batch.first_piece[batch.count]; piece += grid_count()) {
    t = tensor_of(batch, piece, t);
    const StepTensor &tensor = batch.tensors[t];
    const NewAbsmax<kOptimizer> made(words, tensor, blocksize);
    const int64_t start = (piece - batch.first_piece[t]) * kStepPiece;
    int64_t block = blocksize.of(start);
    if (block * blocksize.value < start) ++block;  // it begins in an earlier piece
    block += thread_index();
    for (; block < made.blocks() && block * blocksize.value - start < kStepPiece; block += thread_count()) {
      if (made.moved(block)) store_absmax<kOptimizer>(tensor, block, made.blocks(), made.of(block));
    }
  }
}

bool is_regular_size(int64_t blocksize) {
  return blocksize >= kTeamElements && blocksize <= kStepPiece && (blocksize & (blocksize - 1)) == 0;
}

Grid grid_of(const StepBatch &batch, const Queue &queue) {
  return {blocks_for(queue, batch.first_piece[batch.count], kPerMultiprocessor), kStepThreads};
}

template <bnb_optimizer kOptimizer>
bnb_status update_blocks_of_any_size(int64_t blocksize, StepBatch batch, const Queue &queue) {
  int64_t words = 0;
  for (int t = 0; t < batch.count; ++t) {
    batch.tensors[t].first_word = words;
    words += block_count(batch.tensors[t].n, blocksize) * NewAbsmax<kOptimizer>::kWords;
  }
  const Workspace workspace(queue, size_t(words) * sizeof(uint32_t));
  if (workspace.status() != BNB_OK) return workspace.status();
  auto *made = static_cast<uint32_t *>(workspace.data());
  const Grid grid = grid_of(batch, queue);
  const Divisor divisor(blocksize);
  bnb_status status = set_bytes(queue, made, 0, size_t(words) * sizeof(uint32_t));
  if (status == BNB_OK) status = launch(measure_states<kOptimizer>, grid, queue, batch, divisor, made);
  if (status == BNB_OK) status = launch(update_any<kOptimizer>, grid, queue, batch, divisor, made);
  if (status == BNB_OK) status = launch(publish_absmax<kOptimizer>, grid, queue, batch, divisor, made);
  return status;
}

bnb_status update(const OptimizerUpdateArgs &args, const StepBatch &batch, const Queue &queue) {
  bnb_status status = BNB_OK;
  with_optimizer(args.config.optimizer, [&](auto optimizer) {
    constexpr bnb_optimizer kOptimizer = decltype(optimizer)::value;
    status = is_regular_size(args.blocksize)
                 ? launch(update_regular<kOptimizer>, grid_of(batch, queue), queue, batch, Divisor(args.blocksize))
                 : update_blocks_of_any_size<kOptimizer>(args.blocksize, batch, queue);
  });
  return status;
}

bnb_status measure(const OptimizerUpdateArgs &args, const StepBatch &batch, double *param_sums, double *direction_sums,
                   const Queue &queue) {
  bnb_status status = BNB_OK;
  with_optimizer(args.config.optimizer, [&](auto optimizer) {
    status = launch(measure_updates<decltype(optimizer)::value, States8bit>, grid_of(batch, queue), queue, batch,
                    Divisor(args.blocksize), param_sums, direction_sums);
  });
  return status;
}

}  // namespace

bnb_status optimizer_update_8bit(const OptimizerUpdateArgs &args, Queue queue) {
  return update_tensors(args, queue, {measure, update});
}

}  // namespace bnb::gpu
