// SPDX-License-Identifier: MIT
// Says which case was running when the process dies.
#ifndef TESTS_CONFORMANCE_CRASH_H_
#define TESTS_CONFORMANCE_CRASH_H_

namespace conformance {

void name_the_case_on_a_crash();
void now_running(const char *name, const char *target);  // kept, not copied, until the next call

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_CRASH_H_
