// SPDX-License-Identifier: MIT
// Optimizer steps with states in 8 bits, blockwise. EXACT.
//
// Blocks of a power of two of elements, 8 to kStepPiece, are the work of a team of threads that has eight elements of each in
// registers: states are looked up, advanced and, when their new absmax is known, encoded, with one read and one write of
// everything. An element of Adam in bf16 moves 10 bytes, for which an H200 has time for some 60 instructions: hence one exchange
// within the team per state, and codes by look-up. Other block sizes take three kernels: new absmax to a workspace, by atomics;
// then the step, states being advanced a second time; then the absmax to their place.
#include "gpu/ops.h"
#include "gpu/optimizer_codes.h"

namespace bnb::gpu {
namespace {

constexpr int kRows = int(kStepPiece) / kRowElements;
constexpr int kTeamElements = kRows * kFour;  // of a thread
constexpr int kPerMultiprocessor = 8;
constexpr int kRegularPerMultiprocessor = 4;  // as many as there is room for: each fills its tables once

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
    const int64_t block = first >> blocksize.shift;
    const bool exists = first < tensor.n;
    RawFour raw_g[kRows], raw_p[kRows];
    CodesOfStates codes[kRows];
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour;
      const int count = count_of_four(tensor.n, i);
      raw_g[row] = load_four(tensor.g_dtype, tensor.g, i, count);
      raw_p[row] = load_four(tensor.p_dtype, tensor.p, i, count);
      codes[row] = load_codes<kOptimizer>(tensor, i, count);
    }
    const Absmax old = exists ? load_absmax<kOptimizer>(tensor, block) : Absmax{};
    Largest largest;
    StepState states[kRows][kFour];
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour;
      const int count = count_of_four(tensor.n, i);
      float g[kFour], p[kFour], directions[kFour];
      widen_four(tensor.g_dtype, raw_g[row], g);
      widen_four(tensor.p_dtype, raw_p[row], p);
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) states[row][j] = maps.template decode<kOptimizer>(codes[row], j, old);
      const uint32_t moved = step(g, p, states[row], directions, &found_nonfinite);
      if (count < kFour) {
        BNB_UNROLL
        for (int j = 0; j < kFour; ++j) {
          if (j >= count) states[row][j] = StepState();  // within any absmax, as the look-up of its code must have it
        }
      }
      BNB_UNROLL
      for (int j = 0; j < kFour; ++j) largest.template add<kOptimizer>(states[row][j], j < count && (moved >> j & 1));
      if (moved == 0) continue;
      step.move(directions, moved, p);
      store_four(tensor.p_dtype, tensor.p, i, count, p);
    }
    largest.template gather<kOptimizer>(team, skips, maxima);
    if (!exists || largest.moved == 0) continue;
    const Absmax absmax = largest.absmax();
    const StateEncoder<kOptimizer> encode(searches, absmax);
    BNB_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = first + row * team * kFour;
      store_codes<kOptimizer>(tensor, i, 0, count_of_four(tensor.n, i), encode(states[row]));
    }
    if (member == 0) store_absmax<kOptimizer>(tensor, block, absmax);
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
  BNB_DEVICE_METHOD void read(const StepTensor &tensor, int64_t i, int count, StepState *states) const {
    const CodesOfStates codes = load_codes<kOptimizer>(tensor, i, count);
    int64_t block = blocksize_.of(i), end = (block + 1) * blocksize_.value;
    Absmax absmax = load_absmax<kOptimizer>(tensor, block);
    BNB_UNROLL
    for (int j = 0; j < kFour; ++j) {
      if (i + j == end && j < count) {
        absmax = load_absmax<kOptimizer>(tensor, ++block);
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

  BNB_DEVICE_METHOD NewAbsmax(uint32_t *words, const StepTensor &tensor)
      : words_(words + tensor.first_word), blocks_(tensor.blocks) {}

  BNB_DEVICE_METHOD void raise(int64_t block, const Largest &largest) const {
    raise_to(words_ + block, largest.first);
    if constexpr (Is::kSecond) raise_to(words_ + blocks_ + block, largest.second);
    if constexpr (Is::kSlow) raise_to(words_ + 2 * blocks_ + block, largest.slow);
    raise_to(words_ + (kWords - 1) * blocks_ + block, largest.moved);
  }
  BNB_DEVICE_METHOD Absmax of(int64_t block) const {
    Absmax absmax;
    absmax.first = absmax_of(words_[block]);
    if constexpr (Is::kSecond) absmax.second = absmax_of(words_[blocks_ + block]);
    if constexpr (Is::kSlow) absmax.slow = absmax_of(words_[2 * blocks_ + block]);
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
    const NewAbsmax<kOptimizer> made(words, tensor);
    all.use(tensor);
    const int64_t start = (piece - batch.first_piece[t]) * kStepPiece;
    const int64_t last = tensor.n - start < kStepPiece ? tensor.n - 1 : start + kStepPiece - 1;
    const int64_t start_block = blocksize.of(start);
    const bool one_block = start_block == blocksize.of(last);
    Largest largest;
    for (int64_t i = start + int64_t(thread_index()) * kFour; i <= last; i += kRowElements) {
      const int count = count_of_four(tensor.n, i);
      float g[kFour], p[kFour], directions[kFour];
      StepState states[kFour];
      widen_four(tensor.g_dtype, load_four(tensor.g_dtype, tensor.g, i, count), g);
      widen_four(tensor.p_dtype, load_four(tensor.p_dtype, tensor.p, i, count), p);
      all.template read<kOptimizer>(tensor, i, count, states);
      const uint32_t moved = step(g, p, states, directions, &found_nonfinite);
      for (int begin = 0, end = count; begin < count; begin = end, end = count) {  // the elements of one block
        int64_t block = start_block;
        if (!one_block) {
          block = blocksize.of(i + begin);
          const int64_t left = (block + 1) * blocksize.value - i;
          if (left < count) end = int(left);
        }
        BNB_UNROLL
        for (int j = 0; j < kFour; ++j) {
          if (j >= begin && j < end) largest.template add<kOptimizer>(states[j], moved >> j & 1);
        }
        if (!one_block) {
          made.raise(block, largest);
          largest = Largest();
        }
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
    const NewAbsmax<kOptimizer> made(words, tensor);
    searches.use(tensor, all.maps());
    const int64_t start = (piece - batch.first_piece[t]) * kStepPiece;
    const int64_t last = tensor.n - start < kStepPiece ? tensor.n - 1 : start + kStepPiece - 1;
    for (int64_t i = start + int64_t(thread_index()) * kFour; i <= last; i += kRowElements) {
      const int count = count_of_four(tensor.n, i);
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
      for (int begin = 0, end = 0; begin < count; begin = end) {  // the elements of one block, mostly all four
        const int64_t block = blocksize.of(i + begin), left = (block + 1) * blocksize.value - i;
        end = left < count ? int(left) : count;
        if (!made.moved(block)) continue;
        StepState of_block[kFour];
        BNB_UNROLL
        for (int j = 0; j < kFour; ++j) of_block[j] = j >= begin && j < end ? states[j] : StepState();
        const StateEncoder<kOptimizer> encode(searches, made.of(block));
        store_codes<kOptimizer>(tensor, i, begin, end, encode(of_block));
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
    const NewAbsmax<kOptimizer> made(words, tensor);
    const int64_t start = (piece - batch.first_piece[t]) * kStepPiece;
    int64_t block = blocksize.of(start);
    if (block * blocksize.value < start) ++block;  // it begins in an earlier piece
    block += thread_index();
    for (; block < tensor.blocks && block * blocksize.value - start < kStepPiece; block += thread_count()) {
      if (made.moved(block)) store_absmax<kOptimizer>(tensor, block, made.of(block));
    }
  }
}

bool is_regular_size(int64_t blocksize) {
  return blocksize >= kTeamElements && blocksize <= kStepPiece && (blocksize & (blocksize - 1)) == 0;
}

Grid grid_of(const StepBatch &batch, const Queue &queue, int per_multiprocessor = kPerMultiprocessor) {
  return {blocks_for(queue, batch.first_piece[batch.count], per_multiprocessor), kStepThreads};
}

template <bnb_optimizer kOptimizer>
bnb_status update_blocks_of_any_size(int64_t blocksize, StepBatch batch, const Queue &queue) {
  int64_t words = 0;
  for (int t = 0; t < batch.count; ++t) {
    batch.tensors[t].first_word = words;
    words += batch.tensors[t].blocks * NewAbsmax<kOptimizer>::kWords;
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
    if (is_regular_size(args.blocksize)) {
      const Grid grid = grid_of(batch, queue, kRegularPerMultiprocessor);
      status = launch(update_regular<kOptimizer>, grid, queue, batch, Divisor(args.blocksize));
    } else {
      status = update_blocks_of_any_size<kOptimizer>(args.blocksize, batch, queue);
    }
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
