// SPDX-License-Identifier: MIT
// Sparse arrays: one memory file mapped many times, private pages over it.
#include "sparse.h"

#include <sys/mman.h>
#include <unistd.h>

namespace conformance {
namespace {

constexpr int64_t kSea = 4 << 20;    // small enough to stay in a cache
constexpr int64_t kPage = 64 << 10;  // the largest page size of Linux on the processors that this runs on

int64_t rounded(int64_t bytes) { return ceil_div(bytes, kPage) * kPage; }

}  // namespace

SparseArray::SparseArray(int64_t bytes, const std::vector<Range> &islands, uint8_t filler) : bytes_(rounded(bytes)) {
  ok_ = map(islands, filler);
}

bool SparseArray::map(const std::vector<Range> &islands, uint8_t filler) {
  file_ = memfd_create("sea", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, kSea) != 0) return false;
  void *space = mmap(nullptr, size_t(bytes_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return false;
  base_ = static_cast<uint8_t *>(space);
  void *sea = mmap(nullptr, size_t(kSea), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (sea == MAP_FAILED) return false;
  sea_ = static_cast<uint8_t *>(sea);
  std::memset(sea_, filler, size_t(kSea));
  for (int64_t at = 0; at < bytes_; at += kSea) {
    const int64_t size = bytes_ - at < kSea ? bytes_ - at : kSea;
    if (mmap(base_ + at, size_t(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_, 0) == MAP_FAILED)
      return false;
  }
  for (const Range &island : islands) {
    const int64_t begin = island.begin / kPage * kPage, end = rounded(island.end);
    if (mmap(base_ + begin, size_t(end - begin), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
             0) == MAP_FAILED) {
      return false;
    }
    std::memset(base_ + begin, filler, size_t(end - begin));
  }
  return true;
}

SparseArray::~SparseArray() {
  if (base_) munmap(base_, size_t(bytes_));
  if (sea_) munmap(sea_, size_t(kSea));
  if (file_ >= 0) close(file_);
}

bool SparseArray::sea_is(uint8_t value) const {
  for (int64_t i = 0; i < kSea; ++i) {
    if (sea_[i] != value) return false;
  }
  return true;
}

}  // namespace conformance
