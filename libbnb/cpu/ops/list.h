// SPDX-License-Identifier: MIT
// Work over a list of tensors as one range, so that the threads share all of it, however small its tensors are.
#ifndef BNB_CPU_OPS_LIST_H_
#define BNB_CPU_OPS_LIST_H_

#include "core/scratch.h"
#include "cpu/ops/ops.h"

namespace bnb::cpu {

class WorkList {
 public:
  explicit WorkList(int64_t count) : count_(count), starts_(count + 1) {}
  bool usable() const { return starts_.usable(); }

  // Calls body(entry, begin, end) for ranges that make up [0, units_of(entry)) of every entry, multiples of
  // multiple_of(entry) but for the last. bytes_of(entry): what one unit of it reads and writes, about.
  template <typename UnitsOf, typename MultipleOf, typename BytesOf, typename Body>
  void run(const UnitsOf &units_of, const MultipleOf &multiple_of, const BytesOf &bytes_of, const Body &body) {
    double bytes = 0.0;
    starts_[0] = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t units = units_of(i);
      starts_[i + 1] = starts_[i] + ceil_div(units, multiple_of(i));
      bytes += double(units) * double(bytes_of(i));
    }
    const int64_t pieces = starts_[count_];
    if (pieces == 0) return;
    parallel_for(pieces, int64_t(bytes / double(pieces)), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = entry_of(begin); begin < end; ++i) {
        const int64_t stop = starts_[i + 1] < end ? starts_[i + 1] : end;
        if (stop == begin) continue;  // an empty entry
        const int64_t multiple = multiple_of(i), units = units_of(i);
        const int64_t last = (stop - starts_[i]) * multiple;
        body(i, (begin - starts_[i]) * multiple, last < units ? last : units);
        begin = stop;
      }
    });
  }

 private:
  // The entry that a piece belongs to.
  int64_t entry_of(int64_t piece) const {
    int64_t low = 0, high = count_;  // starts_[low] <= piece < starts_[high]
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (starts_[middle] <= piece ? low : high) = middle;
    }
    return low;
  }

  int64_t count_;
  Scratch<int64_t> starts_;  // in pieces
};

}  // namespace bnb::cpu

#endif  // BNB_CPU_OPS_LIST_H_
