// SPDX-License-Identifier: MIT
// Asynchronous copies of the running thread that nobody has waited for yet.
#ifndef TESTS_SIMT_COPIES_H_
#define TESTS_SIMT_COPIES_H_

#include <cstddef>

namespace simt {

struct Copy {
  void *to;
  const void *from;  // NULL: zeros
};

void begin_copy(const Copy &copy);
void commit_copies();

// The next one of all groups but the last `behind`, which is done with it; false: there is none.
bool take_copy(size_t behind, Copy *copy);

}  // namespace simt

#endif  // TESTS_SIMT_COPIES_H_
