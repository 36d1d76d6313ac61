// SPDX-License-Identifier: MIT
// BNB_CPU_ISA, BNB_NUM_THREADS: each reading in a process of its own, because the library reads them once.
#include <bnb/bnb.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "conformance/samples.h"
#include "prepared.h"

namespace {

// The parent never uses the library, so that every child sees it fresh.
template <typename Body>
void in_child(Body &&body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const long long before = unit::failures;
    body();
    std::fflush(stdout);
    _exit(unit::failures == before ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

bool contains(const char *text, const char *part) { return text && std::strstr(text, part) != nullptr; }

void without_variables() {
  unsetenv("BNB_CPU_ISA");
  const char *last = nullptr;
  for (int32_t i = 0; const char *name = bnb_isa_name(i); ++i) {
    if (bnb_isa_available(name)) last = name;
  }
  CHECK(last && std::strcmp(bnb_isa_name(0), "reference") == 0);
  CHECK(bnb_isa_active() && std::strcmp(bnb_isa_active(), last) == 0);
  CHECK(contains(bnb_isa_reason(), "most capable"));
  CHECK(bnb_isa_name(-1) == nullptr && bnb_isa_name(1000) == nullptr);
  CHECK(!bnb_isa_available("mmx") && !bnb_isa_available(nullptr));
}

void every_cap() {
  for (int32_t i = 0; const char *name = bnb_isa_name(i); ++i) {
    in_child([&] {
      setenv("BNB_CPU_ISA", name, 1);
      const char *active = bnb_isa_active();
      CHECK(active != nullptr);
      if (bnb_isa_available(name))
        CHECK_THAT(std::strcmp(active, name) == 0, "capped at %s, but %s is active", name, active);
      CHECK(contains(bnb_isa_reason(), name));
      CHECK(bnb_set_isa("reference") == BNB_OK);  // forcing beats the cap
      CHECK(std::strcmp(bnb_isa_active(), "reference") == 0 && contains(bnb_isa_reason(), "bnb_set_isa"));
      CHECK(bnb_set_isa(nullptr) == BNB_OK && std::strcmp(bnb_isa_active(), active) == 0);
    });
  }
}

void empty_cap() {
  setenv("BNB_CPU_ISA", "", 1);
  CHECK(bnb_isa_active() != nullptr && contains(bnb_isa_reason(), "most capable"));
}

void unknown_cap() {
  setenv("BNB_CPU_ISA", "pentium", 1);
  CHECK(bnb_isa_active() == nullptr);
  CHECK(contains(bnb_isa_reason(), "pentium") && contains(bnb_isa_reason(), "BNB_CPU_ISA"));
  conformance::Random random(1);
  for (const conformance::Sample &sample : conformance::samples(1000, random)) {
    unit::Prepared prepared(sample);
    const char *name = sample.function;
    CHECK_THAT(prepared.call() == BNB_ERROR_INVALID_ARGUMENT, "%s did not refuse", name);
    CHECK_THAT(contains(bnb_last_error(), "pentium"), "%s says: %s", name, bnb_last_error());
    CHECK_THAT(contains(bnb_last_error(), name), "the error of %s does not name it: %s", name, bnb_last_error());
    CHECK_THAT(prepared.outputs_untouched(), "%s wrote to an output", name);
  }
  CHECK(bnb_set_isa("reference") == BNB_OK);  // a way out
  CHECK(bnb_isa_active() != nullptr);
}

void unknown_name() {
  CHECK(bnb_set_isa("pentium") == BNB_ERROR_INVALID_ARGUMENT);
  CHECK(contains(bnb_last_error(), "pentium") && contains(bnb_last_error(), "bnb_set_isa"));
  for (int32_t i = 0; const char *name = bnb_isa_name(i); ++i) {
    CHECK(bnb_set_isa(name) == (bnb_isa_available(name) ? BNB_OK : BNB_ERROR_UNSUPPORTED));
  }
}

void thread_counts() {
  const struct {
    const char *text;
    int32_t count;  // 0: the machine's
  } rows[] = {{"1", 1}, {"3", 3}, {"17", 17}, {"0", 0}, {"-4", 0}, {"", 0}, {"many", 0}};
  for (const auto &row : rows) {
    in_child([&] {
      setenv("BNB_NUM_THREADS", row.text, 1);
      const int32_t got = bnb_get_num_threads();
      CHECK_THAT(row.count ? got == row.count : got >= 1, "BNB_NUM_THREADS=%s gives %d threads", row.text, got);
      CHECK(bnb_set_num_threads(2) == BNB_OK && bnb_get_num_threads() == 2);
      CHECK(bnb_set_num_threads(0) == BNB_OK && bnb_get_num_threads() == got);
    });
  }
}

}  // namespace

int main() {
  unit::run("no variables", [] { in_child(without_variables); });
  unit::run("BNB_CPU_ISA caps", every_cap);
  unit::run("BNB_CPU_ISA empty", [] { in_child(empty_cap); });
  unit::run("BNB_CPU_ISA unknown", [] { in_child(unknown_cap); });
  unit::run("bnb_set_isa", [] { in_child(unknown_name); });
  unit::run("BNB_NUM_THREADS", thread_counts);
  return unit::summary();
}
