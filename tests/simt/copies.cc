// SPDX-License-Identifier: MIT
// The queues of copies.h, one for each thread of a block.
#include "copies.h"

#include <cstdlib>

#include "grid.h"

namespace simt {
namespace {

// First in, first out. Not a container of the standard library: what those leave in an object the library would export.
template <typename T>
class Line {
 public:
  void clear() { begin_ = end_ = 0; }
  size_t size() const { return end_ - begin_; }
  T &front() { return items_[begin_]; }
  T &back() { return items_[end_ - 1]; }
  void pop_front() { ++begin_; }
  void push_back(const T &item) {
    if (end_ == capacity_) {
      capacity_ = 2 * capacity_ + 16;
      items_ = static_cast<T *>(std::realloc(items_, capacity_ * sizeof(T)));
      if (!items_) std::abort();
    }
    items_[end_++] = item;
  }

 private:
  T *items_ = nullptr;
  size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

struct Queue {
  uint32_t block = 0;  // of which it is: when that began
  Line<Copy> copies;
  Line<size_t> groups;  // their sizes, those of the open one last
};

Queue &queue() {
  static Queue queues[kMaxThreads];
  Queue &mine = queues[current->index];
  if (mine.block != times.block) {
    mine.block = times.block;
    mine.copies.clear();
    mine.groups.clear();
    mine.groups.push_back(0);
  }
  return mine;
}

}  // namespace

void begin_copy(const Copy &copy) {
  queue().copies.push_back(copy);
  ++queue().groups.back();
}

void commit_copies() { queue().groups.push_back(0); }

bool take_copy(size_t behind, Copy *copy) {
  Queue &mine = queue();
  while (mine.groups.size() > behind + 1 && mine.groups.front() == 0) mine.groups.pop_front();
  if (mine.groups.size() <= behind + 1) return false;
  *copy = mine.copies.front();
  mine.copies.pop_front();
  --mine.groups.front();
  return true;
}

}  // namespace simt
