// SPDX-License-Identifier: MIT
// One step of fuzzing, from the decisions that a Random makes.
#ifndef TESTS_FUZZ_FUZZ_H_
#define TESTS_FUZZ_FUZZ_H_

#include <map>
#include <string>

#include "hostile.h"

namespace fuzz {

struct Tally {
  int64_t accepted = 0, refused = 0, not_run = 0;
};
using Tallies = std::map<std::string, Tally>;  // by function

// Each makes one call (the services: several) and returns "" or what is wrong with what happened.
std::string fuzz_operation(Random &random, Tallies *tallies);      // bnb.h, on descriptors
std::string fuzz_bare_pointers(Random &random, Tallies *tallies);  // bitsandbytes.h
std::string fuzz_services(Random &random, Tallies *tallies);       // bnb_<verb>

// One of the three.
std::string fuzz_one(Random &random, Tallies *tallies);

// The functions that the headers declare, NULL behind the last.
extern const char *const kDeclaredFunctions[];

}  // namespace fuzz

#endif  // TESTS_FUZZ_FUZZ_H_
