// SPDX-License-Identifier: MIT
// Fatal signals: print the running case, then let the signal do what it would have done (a sanitizer's report, a core).
#include "crash.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace conformance {
namespace {

constexpr int kFatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
struct sigaction before[sizeof kFatal / sizeof kFatal[0]];
const char *volatile running_name = "nothing";
const char *volatile running_target = "no target";

void say(const char *text) {
  const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
  (void)written;  // there is nobody left to tell
}

void on_fatal(int signal_number) {
  say("\nCRASH in ");
  say(running_name);
  say(" @ ");
  say(running_target);
  say("\n");
  for (size_t i = 0; i < sizeof kFatal / sizeof kFatal[0]; ++i) {
    if (kFatal[i] == signal_number) sigaction(signal_number, &before[i], nullptr);
  }
  if (signal_number == SIGABRT) raise(signal_number);
}

}  // namespace

void name_the_case_on_a_crash() {
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_handler = on_fatal;
  for (size_t i = 0; i < sizeof kFatal / sizeof kFatal[0]; ++i) sigaction(kFatal[i], &action, &before[i]);
}

void now_running(const char *name, const char *target) {
  running_name = name;
  running_target = target;
}

}  // namespace conformance
