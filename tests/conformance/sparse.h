// SPDX-License-Identifier: MIT
// Arrays of many gigabytes on a small machine (Linux).
#ifndef TESTS_CONFORMANCE_SPARSE_H_
#define TESTS_CONFORMANCE_SPARSE_H_

#include <vector>

#include "call.h"

namespace conformance {

struct Range {
  int64_t begin, end;  // bytes
};

// `bytes` bytes of address space. The islands have memory of their own; all the rest shows one and the same piece of
// memory again and again, so it must be read as one value and written with one value everywhere.
class SparseArray {
 public:
  SparseArray(int64_t bytes, const std::vector<Range> &islands, uint8_t filler);
  ~SparseArray();
  SparseArray(const SparseArray &) = delete;
  SparseArray &operator=(const SparseArray &) = delete;

  bool ok() const { return ok_; }
  uint8_t *data() const { return base_; }
  bool sea_is(uint8_t value) const;  // whether everything but the islands holds this byte

 private:
  bool map(const std::vector<Range> &islands, uint8_t filler);

  uint8_t *base_ = nullptr;
  uint8_t *sea_ = nullptr;  // a view of its own, which no island covers
  int64_t bytes_;
  int file_ = -1;
  bool ok_ = false;
};

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SPARSE_H_
