// SPDX-License-Identifier: MIT
// Steps over the functions of bitsandbytes.h. Their sizes are the caller's promise, so every pointer has memory for the
// largest sizes that are drawn; what is hostile are null pointers, signs, block sizes, and the content of everything.
#include <bnb/bitsandbytes.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

#include "fuzz.h"

namespace fuzz {
namespace {

constexpr int64_t kCounts[] = {-1, INT32_MIN, 0, 1, 2, 3, 7, 16, 32, 33};
constexpr int64_t kMostBytes = 16 << 10;  // more than 33 * 33 items of 8 bytes

// The arguments of one call.
class Draw {
 public:
  Draw(const char *function, Random &random)
      : random_(random), hostile_(!random.one_in(4)), device_(device_for(function)), far_(random.below(5)) {}
  ~Draw() {
    for (const Argument &argument : arguments_) conformance::give_back_pages(argument.pages);
  }
  Draw(const Draw &) = delete;
  Draw &operator=(const Draw &) = delete;

  template <typename T>
  const T *input(const char *name) {
    return static_cast<const T *>(pointer(name, false, std::is_same_v<T, float>, std::is_same_v<T, int>));
  }
  template <typename T>
  T *output(const char *name) {
    return static_cast<T *>(pointer(name, true, std::is_same_v<T, float>, std::is_same_v<T, int>));
  }

  template <typename T>
  T value(const char *name) {
    if constexpr (std::is_same_v<T, bool>) return random_.one_in(2);
    if constexpr (std::is_floating_point_v<T>) return T(real());
    const std::string_view text = name;
    if (text == "blocksize") return T(blocksize());
    if (text == "quant_type") return T(random_.between(hostile_ ? -1 : 1, hostile_ ? 4 : 2));
    if (text == "value") return T(random_.bits());
    if (text == "bytes") return T(random_.one_in(4) ? ~uint64_t(0) / 2 : random_.below(100));
    const int64_t first = hostile_ && random_.one_in(6) ? 0 : 2;
    return T(kCounts[random_.between(first, int64_t(std::size(kCounts)) - 1)]);
  }

  // The call runs between these two.
  bool upload() const { return std::all_of(images_.begin(), images_.end(), [](const Image &image) { return image.upload(); }); }
  bool download() const { return std::all_of(images_.begin(), images_.end(), [](const Image &image) { return image.download(); }); }

  std::string judge(const char *function, bnb_status status) {
    if (!download()) return std::string(function) + ": memory could not be copied back";
    accepted_ = status == BNB_OK;
    const std::string text = bnb_last_error(), start = std::string(function) + ": ";
    if (!accepted_ && text.compare(0, start.size(), start) != 0)
      return std::string(function) + ": the error is " + text;
    if (status < BNB_OK || status > BNB_ERROR_UNSUPPORTED) return start + "status " + bnb_status_name(status);
    return check_memory(function);
  }
  std::string judge(const char *function, int result) {
    if (!download()) return std::string(function) + ": memory could not be copied back";
    accepted_ = result == 0;
    return check_memory(function);
  }
  std::string judge(const char *function, bool) {
    accepted_ = true;
    return check_memory(function);
  }
  std::string judge(const char *function, void *data) {
    accepted_ = data != nullptr;
    const DLDevice last = devices().back();  // a GPU's, if there is one that has such memory
    if (std::strcmp(function, "cget_managed_ptr") == 0) bnb_free(last, data);
    return check_memory(function);
  }
  bool accepted() const { return accepted_; }

 private:
  struct Argument {
    const char *name;
    conformance::Pages pages;
    bool output;
    Bytes before;
    uint8_t *begin;  // of what the call gets: the pages, or their image on a device
  };

  // Names of the CPU take host memory.
  static DLDevice device_for(const char *function) { return std::strstr(function, "cpu") ? kCpu : devices().back(); }

  double real() {
    const double values[] = {0.0, 1.0, 0.5, 6.0, -1.0, -0.0, 1e-40, 3e38, NAN, double(INFINITY), 0.25, 1e-3};
    return values[random_.below(hostile_ ? 12 : 4)];
  }

  int64_t blocksize() {
    const int64_t values[] = {0, -1, INT32_MIN, INT32_MAX, 1, 3, 2, 16, 64, 100};
    return values[random_.between(hostile_ ? 0 : 6, 9)];
  }

  void *pointer(const char *name, bool output, bool floats, bool ints) {
    const std::string_view text = name;
    if (text == "stream") return nullptr;
    if (hostile_ && random_.one_in(12)) return nullptr;
    if (hostile_ && !arguments_.empty() && random_.one_in(20)) return arguments_[0].begin;  // two in one place
    arguments_.push_back({name, conformance::take_pages(kMostBytes), output, {}, nullptr});
    Argument &argument = arguments_.back();
    const int64_t offset = hostile_ ? random_.below(4) : 0;
    fill(text, argument.pages.begin + offset, kMostBytes - 8, floats, ints);
    argument.before.assign(argument.pages.begin, argument.pages.begin + argument.pages.size);
    argument.begin = argument.pages.begin;
    if (!is_cpu(device_) && random_.below(4) < far_) {  // from all in host memory to all on the device
      const bool managed = random_.one_in(5) || device_.device_type == kDLMetal;  // where a buffer is no address
      images_.emplace_back(device_, argument.pages, managed);
      argument.begin = static_cast<uint8_t *>(images_.back().data());
    }
    return argument.begin + offset;
  }

  // Indices stay near the sizes that are drawn; codes are mostly right; the rest is anything.
  void fill(std::string_view name, uint8_t *data, int64_t bytes, bool floats, bool ints) {
    for (int64_t i = 0; i < bytes; i += 8) {
      const uint64_t bits = random_.bits();
      std::memcpy(data + i, &bits, 8);
    }
    if (ints && name != "A") {
      for (int64_t i = 0; i < bytes; i += 4) {
        const int32_t index = int32_t(random_.between(hostile_ ? -1 : 0, 33));
        std::memcpy(data + i, &index, 4);
      }
    }
    if (floats && (name == "code" || name.substr(0, 9) == "quantiles") && !(hostile_ && random_.one_in(4))) {
      float map[256];
      bnb_create_dynamic_map(1, map);
      std::memcpy(data, map, sizeof map);
    }
  }

  std::string check_memory(const char *function) const {
    for (const Argument &argument : arguments_) {
      if (argument.output && accepted_) continue;
      if (std::memcmp(argument.before.data(), argument.pages.begin, argument.before.size()) == 0) continue;
      if (accepted_ && shares(argument)) continue;
      return std::string(function) + ": " + argument.name +
             (argument.output ? " was written by a call that failed" : " is an input and was written");
    }
    return "";
  }

  // c_mul_fp32 and its like may be given one place twice.
  bool shares(const Argument &argument) const { return &argument == &arguments_[0]; }

  Random &random_;
  const bool hostile_;
  const DLDevice device_;
  const int64_t far_;
  bool accepted_ = false;
  std::vector<Argument> arguments_;
  std::vector<Image> images_;
};

}  // namespace
}  // namespace fuzz

#include "functions.inc"

namespace fuzz {

std::string fuzz_bare_pointers(Random &random, Tallies *tallies) {
  const auto &row = kBareCalls[random.below(int64_t(std::size(kBareCalls)))];
  Draw draw(row.name, random);
  const std::string problem = row.call(draw);
  Tally &tally = (*tallies)[row.name];
  ++(draw.accepted() ? tally.accepted : tally.refused);
  return problem;
}

}  // namespace fuzz
