// SPDX-License-Identifier: MIT
// Large outputs go past the caches: a line that is written in full and not read soon need not be fetched first.
#ifndef BNB_CPU_KERNELS_STREAMING_H_
#define BNB_CPU_KERNELS_STREAMING_H_

#include BNB_SIMD_HEADER

namespace bnb::cpu::BNB_ISA {
namespace {

// An output of this many bytes would not stay in a core's own caches until somebody reads it.
constexpr int64_t kStreamBytes = 4 << 20;
constexpr int64_t kStageBytes = 4096;

// Bytes that are made in the first-level cache on their way to `out`, whatever its alignment.
class Stage {
 public:
  BNB_INLINE Stage(void *out) {
    skip_ = filled_ = int64_t(reinterpret_cast<uintptr_t>(out) % uintptr_t(kLineBytes));
    line_ = static_cast<char *>(out) - skip_;
  }
  BNB_INLINE char *next() { return bytes_ + filled_; }  // where up to kStageBytes may be made

  BNB_INLINE void flush(int64_t made) {
    filled_ += made;
    int64_t at = 0;
    if (skip_ && filled_ >= kLineBytes) {  // the first line begins with somebody else's bytes
      std::memcpy(line_ + skip_, bytes_ + skip_, size_t(kLineBytes - skip_));
      skip_ = 0;
      at = kLineBytes;
    }
    for (; at + kLineBytes <= filled_; at += kLineBytes) stream_line(line_ + at, bytes_ + at);
    line_ += at;
    filled_ -= at;
    if (at) std::memcpy(bytes_, bytes_ + at, kLineBytes);
  }
  BNB_INLINE void finish() {
    std::memcpy(line_ + skip_, bytes_ + skip_, size_t(filled_ - skip_));
    stream_fence();
  }

 private:
  char *line_;      // where bytes_[0] goes: the start of a line
  int64_t skip_;    // leading bytes that are not ours
  int64_t filled_;  // bytes_[skip_, filled_) waits
  alignas(kLineBytes) char bytes_[kStageBytes + 2 * kLineBytes];
};

// Bytes [begin, end) of an output of `total` bytes, by calls of produce(first, last, where), which writes bytes [first, last) to
// `where`. `first` is `begin` plus a multiple of kStageBytes; a large output is produced in a stage.
template <typename Produce>
BNB_INLINE void write_output(void *out, int64_t total, int64_t begin, int64_t end, const Produce &produce) {
  char *to = static_cast<char *>(out) + begin;
  if (!kStreams || total < kStreamBytes) {
    if (begin < end) produce(begin, end, to);
    return;
  }
  Stage stage(to);
  for (int64_t first = begin; first < end; first += kStageBytes) {
    const int64_t last = end - first < kStageBytes ? end : first + kStageBytes;
    produce(first, last, stage.next());
    stage.flush(last - first);
  }
  stage.finish();
}

}  // namespace
}  // namespace bnb::cpu::BNB_ISA

#endif  // BNB_CPU_KERNELS_STREAMING_H_
