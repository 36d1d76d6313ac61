// SPDX-License-Identifier: MIT
// What a unit test needs: named cases, checks that say where they failed, and a summary line.
#ifndef TESTS_UNIT_CHECK_H_
#define TESTS_UNIT_CHECK_H_

#include <cstdio>

// The sanitizers that stop the program where the library would return an error, or cannot follow a fork. gcc and clang
// say in different ways that they are there.
#if defined(__has_feature)
#define UNIT_HAS_FEATURE(name) __has_feature(name)
#else
#define UNIT_HAS_FEATURE(name) 0
#endif

namespace unit {

#if defined(__SANITIZE_ADDRESS__) || UNIT_HAS_FEATURE(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__) || UNIT_HAS_FEATURE(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#undef UNIT_HAS_FEATURE

inline long long failures = 0, cases = 0, failed_cases = 0, skipped_cases = 0;

inline void fail(const char *file, int line, const char *what) {
  if (++failures <= 20) std::printf("%s:%d: %s\n", file, line, what);
}

template <typename Body>
void run(const char *name, Body &&body) {
  const long long before = failures;
  body();
  ++cases;
  if (failures != before) {
    ++failed_cases;
    std::printf("FAIL %s\n", name);
  }
}

inline void skip(const char *name, const char *reason) {
  ++skipped_cases;
  std::printf("skipped %s: %s\n", name, reason);
}

inline int summary() {
  std::printf("%lld passed, %lld failed", cases - failed_cases, failed_cases);
  if (skipped_cases) std::printf(", %lld skipped", skipped_cases);
  std::printf("\n");
  return failed_cases ? 1 : 0;
}

}  // namespace unit

#define CHECK(condition) ((condition) ? (void)0 : ::unit::fail(__FILE__, __LINE__, #condition))

// The same with words of its own: CHECK_THAT(got == want, "code %d", code).
#define CHECK_THAT(condition, ...)                   \
  do {                                               \
    if (!(condition)) {                              \
      char text[256];                                \
      std::snprintf(text, sizeof text, __VA_ARGS__); \
      ::unit::fail(__FILE__, __LINE__, text);        \
    }                                                \
  } while (false)

#endif  // TESTS_UNIT_CHECK_H_
