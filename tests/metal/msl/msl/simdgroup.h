// SPDX-License-Identifier: MIT
// Barriers, and functions in which all lanes of a simdgroup take part. Metal has them for numbers of up to 32 bits.
#ifndef TESTS_METAL_MSL_SIMDGROUP_H_
#define TESTS_METAL_MSL_SIMDGROUP_H_

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };

inline void threadgroup_barrier(mem_flags, MSL_SITE) { metal_host::wait_for_threadgroup({file, line}); }
inline void simdgroup_barrier(mem_flags, MSL_SITE) {
  metal_host::meet({file, line}, nullptr, [](void **, int) {});
}

}  // namespace metal

namespace metal_host {

template <typename T>
struct Exchange {
  T mine, theirs;
  int from;
};
// What lane `from` brought; a lane that is not there: garbage, as Metal leaves it undefined.
template <typename T>
MSL_UNWATCHED inline T exchange(Site site, T x, int from) {
  static_assert(sizeof(T) <= 4, "no simdgroup function for more than 32 bits");
  Exchange<T> record{x, x, from};
  meet(site, &record, [](void **records, int lanes) MSL_UNWATCHED {
    for (int i = 0; i < lanes; ++i) {
      auto *to = static_cast<Exchange<T> *>(records[i]);
      if (to->from >= 0 && to->from < lanes) {
        to->theirs = static_cast<Exchange<T> *>(records[to->from])->mine;
      } else {
        __builtin_memset(&to->theirs, 0xCD, sizeof(T));
      }
    }
  });
  return record.theirs;
}

template <typename T, typename Operation>
MSL_UNWATCHED inline T reduce(Site site, T x, Operation) {
  static_assert(sizeof(T) <= 4, "no simdgroup function for more than 32 bits");
  struct Record {
    T mine, all;
  } record{x, x};
  meet(site, &record, [](void **records, int lanes) MSL_UNWATCHED {
    T all = static_cast<Record *>(records[0])->mine;
    for (int i = 1; i < lanes; ++i) all = Operation()(all, static_cast<Record *>(records[i])->mine);
    for (int i = 0; i < lanes; ++i) static_cast<Record *>(records[i])->all = all;
  });
  return record.all;
}

template <typename T>
MSL_UNWATCHED inline T prefix_sum(Site site, T x, bool inclusive) {
  static_assert(sizeof(T) <= 4, "no simdgroup function for more than 32 bits");
  struct Record {
    T mine, before;
  } record{x, x};
  meet(site, &record, [](void **records, int lanes) MSL_UNWATCHED {
    T before = T(0);
    for (int i = 0; i < lanes; ++i) {
      static_cast<Record *>(records[i])->before = before;
      before = T(before + static_cast<Record *>(records[i])->mine);
    }
  });
  return inclusive ? T(record.before + x) : record.before;
}

struct Sum { template <typename T> T operator()(T a, T b) const { return T(a + b); } };
struct Max { template <typename T> T operator()(T a, T b) const { return a > b ? a : b; } };
struct Min { template <typename T> T operator()(T a, T b) const { return a < b ? a : b; } };
struct Or { template <typename T> T operator()(T a, T b) const { return T(a | b); } };
struct And { template <typename T> T operator()(T a, T b) const { return T(a & b); } };

}  // namespace metal_host

namespace metal {

template <typename T>
inline T simd_shuffle(T x, ushort lane, MSL_SITE) { return metal_host::exchange<T>({file, line}, x, lane); }
template <typename T>
inline T simd_shuffle_xor(T x, ushort mask, MSL_SITE) {
  return metal_host::exchange<T>({file, line}, x, int(metal_host::lane() ^ mask));
}
template <typename T>
inline T simd_shuffle_down(T x, ushort delta, MSL_SITE) {
  return metal_host::exchange<T>({file, line}, x, int(metal_host::lane()) + delta);
}
template <typename T>
inline T simd_shuffle_up(T x, ushort delta, MSL_SITE) {
  return metal_host::exchange<T>({file, line}, x, int(metal_host::lane()) - delta);
}
template <typename T>
inline T simd_broadcast(T x, ushort lane, MSL_SITE) { return metal_host::exchange<T>({file, line}, x, lane); }
template <typename T>
inline T simd_broadcast_first(T x, MSL_SITE) { return metal_host::exchange<T>({file, line}, x, 0); }

// The order of a sum of floats is not Metal's to promise.
template <typename T>
inline T simd_sum(T x, MSL_SITE) { return metal_host::reduce<T>({file, line}, x, metal_host::Sum()); }
template <typename T>
inline T simd_max(T x, MSL_SITE) { return metal_host::reduce<T>({file, line}, x, metal_host::Max()); }
template <typename T>
inline T simd_min(T x, MSL_SITE) { return metal_host::reduce<T>({file, line}, x, metal_host::Min()); }
template <typename T>
inline T simd_or(T x, MSL_SITE) { return metal_host::reduce<T>({file, line}, x, metal_host::Or()); }
template <typename T>
inline T simd_and(T x, MSL_SITE) { return metal_host::reduce<T>({file, line}, x, metal_host::And()); }
inline bool simd_any(bool x, MSL_SITE) { return metal_host::reduce<uint>({file, line}, x, metal_host::Or()) != 0; }
inline bool simd_all(bool x, MSL_SITE) { return metal_host::reduce<uint>({file, line}, x, metal_host::And()) != 0; }

// A bit for each lane. It converts to a number where that is written.
class simd_vote {
 public:
  typedef ulong vote_t;
  explicit simd_vote(vote_t votes = 0) : votes_(votes) {}
  explicit operator vote_t() const { return votes_; }

 private:
  vote_t votes_;
};
inline simd_vote simd_ballot(bool x, MSL_SITE) {
  const uint mine = x ? 1u << metal_host::lane() : 0u;  // 32 lanes
  return simd_vote(metal_host::reduce<uint>({file, line}, mine, metal_host::Or()));
}

template <typename T>
inline T simd_prefix_exclusive_sum(T x, MSL_SITE) { return metal_host::prefix_sum<T>({file, line}, x, false); }
template <typename T>
inline T simd_prefix_inclusive_sum(T x, MSL_SITE) { return metal_host::prefix_sum<T>({file, line}, x, true); }

}  // namespace metal

#endif  // TESTS_METAL_MSL_SIMDGROUP_H_
