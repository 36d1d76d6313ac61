// SPDX-License-Identifier: MIT
// Optimizer steps with states in 8 bits, blockwise. EXACT.
//
// A block goes through in two halves that meet in buffers in the first-level cache. First its states are looked up,
// multiplied by their absmax and advanced; now the new absmax are known. Then parameters move and states are encoded in
// one loop, because the first keeps the divider busy and the second the load ports. A block larger than the buffers
// goes through the first half twice: once for its absmax alone.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/optimizer_step.h"
#include "cpu/kernels/sum_squares.h"
#include "cpu/simd/codes.h"

namespace bnb::cpu::BNB_ISA {
namespace {

struct Absmax {
  float first, second, slow;
};

// Some elements of one block.
struct Chunk {
  int64_t first, count;
};

// How many elements before their turn the arrays are asked for.
constexpr int64_t kAhead = 512;

// What the first half leaves for the second, and what it learned.
struct Buffers {
  Buffer g, p, first, second, slow, carried;
};
struct Largest {
  Ints first = splat_int(0), second = splat_int(0), slow = splat_int(0);  // magnitudes of new states
  Ints g = splat_int(0);
  bool any_kept = false;  // an element that is not skipped
};

BNB_INLINE float absmax_of(Ints largest) {
  const uint32_t bits = reduce_max_uint(largest);
  return formats::float_from_bits(bits > kInfinityBits ? kNanBits : bits);
}

BNB_INLINE void decode(const CodeTable &table, const uint8_t *codes, int64_t count, float absmax, Buffer &out) {
  decode_codes<F32>(table, codes, count, splat(absmax), out.at(0));
}

BNB_INLINE void encode(Buffer &states, int64_t count, float absmax, const CodeSearch &search, uint8_t *codes) {
  if (absmax != absmax) {  // nothing is above a midpoint
    std::memset(codes, 0, size_t(count));
    return;
  }
  with_normaliser(absmax, [&](auto normalise) {
    with_nearest(search, [&](auto nearest) {
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) store_uint8(codes + i, nearest(normalise(load<F32>(states.at(i)))));
      if (i < count)
        store_uint8_some(codes + i, nearest(normalise(load_some<F32>(states.at(i), count - i))), count - i);
    });
  });
}

BNB_INLINE bool ordinary(float absmax) {
  const float reciprocal = 1.0f / absmax;
  return reciprocal > 0.0f && reciprocal < formats::float_from_bits(kInfinityBits);
}

template <bnb_optimizer kOptimizer>
class Kernel {
  using Is = Formula<kOptimizer>;

 public:
  BNB_INLINE explicit Kernel(const OptimizerKernelArgs &args)
      : args_(args),
        c_(make_constants(args)),
        nb_(block_count(args.n, args.blocksize)),
        table1_(make_code_table(args.qmap1)) {
    if constexpr (Is::kSecond) table2_ = make_code_table(args.qmap2);
  }

  BNB_INLINE void update(int64_t begin, int64_t end) {
    Ints largest_g = splat_int(0);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * args_.blocksize;
      const int64_t count = args_.n - first < args_.blocksize ? args_.n - first : args_.blocksize;
      const Absmax old = load_absmax(block);
      Largest largest;
      const auto for_chunks = [&](const auto &body) {
        for (int64_t i = 0; i < count; i += kChunk) body(Chunk{first + i, count - i < kChunk ? count - i : kChunk});
      };
      for_chunks([&](Chunk chunk) { advance_chunk(chunk, old, &largest); });
      largest_g = max_uint(largest_g, largest.g);
      if (!largest.any_kept) continue;
      const Absmax made{absmax_of(largest.first), Is::kSecond ? absmax_of(largest.second) : 0.0f,
                        Is::kSlow ? absmax_of(largest.slow) : 0.0f};
      for_chunks([&](Chunk chunk) {
        if (count > kChunk) advance_chunk(chunk, old, &largest);
        finish_chunk(chunk, made);
      });
      store_absmax(block, made);
    }
    report_nonfinite(args_, largest_g);
  }

  // The sum of squares of the directions of [first, last), at most a chunk.
  BNB_INLINE double measure(int64_t first, int64_t last) {
    Largest largest;
    for_blocks(first, last, args_.blocksize, [&](int64_t block, int64_t from, int64_t to) {
      const Chunk chunk{from, to - from};
      advance_chunk(chunk, load_absmax(block), &largest);
      for_lanes(chunk.count, [&](int64_t i, auto lanes) {
        Floats where = direction<kOptimizer>(c_, states_at(i, lanes), carried_at(i, lanes));
        if (c_.skips()) where = select(skipped(c_, lanes.load(g_ + i * 4)), splat(0.0f), where);
        lanes.store(directions_.at(from - first + i), where);
      });
    });
    return sum_piece<F32>(directions_.at(0), last - first);
  }

 private:
  BNB_INLINE uint8_t *codes1(int64_t i) const { return static_cast<uint8_t *>(args_.state1) + i; }
  BNB_INLINE uint8_t *codes2(int64_t i) const { return static_cast<uint8_t *>(args_.state2) + i; }
  BNB_INLINE Absmax load_absmax(int64_t block) const {
    return {bnb::load<float>(args_.absmax1, block), Is::kSecond ? bnb::load<float>(args_.absmax2, block) : 0.0f,
            Is::kSlow ? bnb::load<float>(args_.absmax1, nb_ + block) : 0.0f};
  }
  BNB_INLINE void store_absmax(int64_t block, const Absmax &absmax) const {
    bnb::store<float>(args_.absmax1, block, absmax.first);
    if constexpr (Is::kSecond) bnb::store<float>(args_.absmax2, block, absmax.second);
    if constexpr (Is::kSlow) bnb::store<float>(args_.absmax1, nb_ + block, absmax.slow);
  }

  template <typename Lanes>
  BNB_INLINE States states_at(int64_t i, const Lanes &lanes) {
    return {lanes.load(buffers_.first.at(i)), Is::kSecond ? lanes.load(buffers_.second.at(i)) : splat(0.0f),
            Is::kSlow ? lanes.load(buffers_.slow.at(i)) : splat(0.0f)};
  }
  template <typename Lanes>
  BNB_INLINE Floats carried_at(int64_t i, const Lanes &lanes) {
    return Is::kCarries ? lanes.load(buffers_.carried.at(i)) : splat(0.0f);
  }

  // What a later chunk will read. The processor does not fetch it by itself: the halves read a block each in turn, and the
  // misses are too far apart.
  struct Ahead {
    const char *g, *p, *first, *second, *slow;
    int64_t g_size, p_size;

    BNB_INLINE void ask(int64_t i) const {
      __builtin_prefetch(g + i * g_size);
      __builtin_prefetch(p + i * p_size, 1);
      if (i % kLineBytes != 0) return;
      __builtin_prefetch(first + i, 1);
      if constexpr (Is::kSecond) __builtin_prefetch(second + i, 1);
      if constexpr (Is::kSlow) __builtin_prefetch(slow + i, 1);
    }
  };
  BNB_INLINE Ahead make_ahead(const Chunk &chunk) const {
    const int64_t next = chunk.first + kAhead, first = next + chunk.count <= args_.n ? next : chunk.first;
    const int64_t g_size = args_.g_dtype == DType::kF32 ? 4 : 2, p_size = args_.p_dtype == DType::kF32 ? 4 : 2;
    return {static_cast<const char *>(args_.g) + first * g_size,
            static_cast<const char *>(args_.p) + first * p_size,
            reinterpret_cast<const char *>(codes1(first)),
            Is::kSecond ? reinterpret_cast<const char *>(codes2(first)) : nullptr,
            Is::kSlow ? reinterpret_cast<const char *>(codes1(args_.n + first)) : nullptr,
            g_size, p_size};
  }

  // The first half. Leaves new states (old ones of skipped elements), g_ and p_.
  BNB_INLINE void advance_chunk(const Chunk &chunk, const Absmax &absmax, Largest *all) {
    decode(table1_, codes1(chunk.first), chunk.count, absmax.first, buffers_.first);
    if constexpr (Is::kSecond) decode(table2_, codes2(chunk.first), chunk.count, absmax.second, buffers_.second);
    if constexpr (Is::kSlow) decode(table1_, codes1(args_.n + chunk.first), chunk.count, absmax.slow, buffers_.slow);
    g_ = as_fp32(args_.g_dtype, args_.g, chunk.first, chunk.count, buffers_.g);
    p_ = as_fp32(args_.p_dtype, args_.p, chunk.first, chunk.count, buffers_.p);
    Largest largest = *all;
    const Ahead ahead = make_ahead(chunk);
    const Constants c = c_;  // copies, which stores to the buffers cannot change
    const char *const from_g = g_;
    const char *const from_p = p_;
    const bool skips = c.skips();
    const Ints magnitude = splat_bits(kMagnitude);
    for_lanes(chunk.count, [&](int64_t i, auto lanes) {
      ahead.ask(i);
      const Floats g = lanes.load(from_g + i * 4);
      const States old = states_at(i, lanes);
      States s = old;
      const Floats p = Is::kDecoupled ? g : lanes.load(from_p + i * 4);
      const Floats carried = advance<kOptimizer>(c, gradient<kOptimizer>(c, g, p), s);
      if (skips) {
        const Mask skip = skipped(c, g);
        s = {select(skip, old.first, s.first), select(skip, old.second, s.second), select(skip, old.slow, s.slow)};
        largest.any_kept = largest.any_kept || any(but_not(lanes.mask(), skip));
      }
      lanes.store(buffers_.first.at(i), s.first);
      if constexpr (Is::kSecond) lanes.store(buffers_.second.at(i), s.second);
      if constexpr (Is::kSlow) lanes.store(buffers_.slow.at(i), s.slow);
      if constexpr (Is::kCarries) lanes.store(buffers_.carried.at(i), carried);
      largest.first = max_uint(largest.first, lanes.only(and_int(bits(s.first), magnitude)));
      if constexpr (Is::kSecond)
        largest.second = max_uint(largest.second, lanes.only(and_int(bits(s.second), magnitude)));
      if constexpr (Is::kSlow) largest.slow = max_uint(largest.slow, lanes.only(and_int(bits(s.slow), magnitude)));
      largest.g = max_uint(largest.g, and_int(bits(g), magnitude));
    });
    if (!skips) largest.any_kept = true;
    *all = largest;
  }

  // The parameters' part of the second half. Lives outside of the kernel, so that stores to the buffers cannot change
  // it.
  struct Mover {
    const Constants c;
    const char *const g;
    char *const p;
    const bool skips;

    template <typename Lanes>
    BNB_INLINE void operator()(int64_t i, const States &s, Floats carried, const Lanes &lanes) const {
      const Floats from = lanes.load(p + i * 4);
      Floats to = moved<kOptimizer>(c, from, direction<kOptimizer>(c, s, carried));
      if (skips) to = select(skipped(c, lanes.load(g + i * 4)), from, to);
      lanes.store(p + i * 4, to);
    }
  };

  // The second half.
  BNB_INLINE void finish_chunk(const Chunk &chunk, const Absmax &absmax) {
    const Mover move{c_, g_, p_, c_.skips()};
    const bool usual = ordinary(absmax.first) && !args_.search1->dense &&
                       (!Is::kSecond || (ordinary(absmax.second) && !args_.search2->dense)) &&
                       (!Is::kSlow || ordinary(absmax.slow));
    if (usual) {
      move_and_encode(chunk, absmax, move);
    } else {
      for_lanes(chunk.count, [&](int64_t i, auto lanes) { move(i, states_at(i, lanes), carried_at(i, lanes), lanes); });
      encode(buffers_.first, chunk.count, absmax.first, *args_.search1, codes1(chunk.first));
      if constexpr (Is::kSecond)
        encode(buffers_.second, chunk.count, absmax.second, *args_.search2, codes2(chunk.first));
      if constexpr (Is::kSlow)
        encode(buffers_.slow, chunk.count, absmax.slow, *args_.search1, codes1(args_.n + chunk.first));
    }
    store_from_fp32(args_.p_dtype, args_.p, chunk.first, chunk.count, buffers_.p);
  }
  BNB_INLINE void move_and_encode(const Chunk &chunk, const Absmax &absmax, const Mover &move) {
    const NearestByBucket nearest1{*args_.search1}, nearest2{Is::kSecond ? *args_.search2 : *args_.search1};
    const Ordinary first{splat(1.0f / absmax.first)}, second{splat(1.0f / absmax.second)},
        slow{splat(1.0f / absmax.slow)};
    uint8_t *const codes_first = codes1(chunk.first);
    uint8_t *const codes_second = Is::kSecond ? codes2(chunk.first) : nullptr;
    uint8_t *const codes_slow = Is::kSlow ? codes1(args_.n + chunk.first) : nullptr;
    for_lanes(chunk.count, [&](int64_t i, auto lanes) {
      const States s = states_at(i, lanes);
      move(i, s, carried_at(i, lanes), lanes);
      lanes.store_code(codes_first + i, nearest1(first(s.first)));
      if constexpr (Is::kSecond) lanes.store_code(codes_second + i, nearest2(second(s.second)));
      if constexpr (Is::kSlow) lanes.store_code(codes_slow + i, nearest1(slow(s.slow)));
    });
  }

  const OptimizerKernelArgs &args_;
  const Constants c_;
  const int64_t nb_;
  CodeTable table1_, table2_;
  const char *g_ = nullptr;  // of the chunk that is in the buffers
  char *p_ = nullptr;
  Buffers buffers_;
  Buffer directions_;
};

}  // namespace

void optimizer_update_8bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  with_optimizer(args.optimizer, [&](auto optimizer) { Kernel<decltype(optimizer)::value>(args).update(begin, end); });
}

void optimizer_measure_8bit(const OptimizerKernelArgs &args, int64_t begin, int64_t end) {
  static_assert(kSumPiece <= kChunk, "a piece fits the buffers");
  with_optimizer(args.optimizer, [&](auto optimizer) {
    Kernel<decltype(optimizer)::value> kernel(args);
    sum_sections(args.n, args.sums, begin, end,
                 [&](int64_t first, int64_t last) { return kernel.measure(first, last); });
  });
}

}  // namespace bnb::cpu::BNB_ISA
