// SPDX-License-Identifier: MIT
// The cache of cpu/ops/searches.h.
#include "cpu/ops/searches.h"

#include <cstdlib>
#include <cstring>

namespace bnb::cpu {

struct Searches::Made {
  Made *next;
  const void *code;
  CodeSearch search;
};

Searches::~Searches() {
  while (made_) {
    Made *next = made_->next;
    std::free(made_);
    made_ = next;
  }
}

const CodeSearch *Searches::of(const void *code) {
  for (int i = 0; i < 2; ++i) {
    if (last_search_[i] && last_code_[i] == code) return last_search_[i];
  }
  const CodeSearch *search = known_code_search(code);
  for (const Made *made = made_; made && !search; made = made->next) {
    if (std::memcmp(made->code, code, 256 * sizeof(float)) == 0) search = &made->search;
  }
  if (!search) {
    Made *made = static_cast<Made *>(std::malloc(sizeof(Made)));
    if (!made) return nullptr;
    make_code_search(code, &made->search);
    made->code = code;
    made->next = made_;
    made_ = made;
    search = &made->search;
  }
  last_code_[oldest_] = code;
  last_search_[oldest_] = search;
  oldest_ ^= 1;
  return search;
}

}  // namespace bnb::cpu
