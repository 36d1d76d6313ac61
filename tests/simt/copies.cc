// SPDX-License-Identifier: MIT
// The queues of copies.h, one for each thread of a block.
#include "copies.h"

#include <deque>
#include <vector>

#include "grid.h"

namespace simt {
namespace {

struct Queue {
  int64_t launch = 0;
  uint32_t block = 0;
  std::deque<Copy> copies;
  std::deque<size_t> groups;  // their sizes, those of the open one last
};

Queue &queue() {
  static auto *const queues = new std::vector<Queue>(kMaxThreads);
  Queue &mine = (*queues)[current->index];
  if (mine.launch != launch_number() || mine.block != position.block) mine = {launch_number(), position.block, {}, {0}};
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
