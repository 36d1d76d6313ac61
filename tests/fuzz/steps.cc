// SPDX-License-Identifier: MIT
// Steps over operations and services.
#include <cstring>

#include "conformance/values.h"
#include "fuzz.h"

namespace fuzz {
namespace {

DLDevice any_device(Random &random) {
  const DLDevice some[] = {kCpu, devices().back(), {kDLCPU, 1}, {kDLCPU, -1}, {kDLCUDA, 0}, {DLDeviceType(random.bits()), 0}};
  return some[random.below(6)];
}

// Any text up to a zero byte, at the end of a page.
class Text {
 public:
  explicit Text(Random &random) : pages_(conformance::take_pages(1)) {
    const int64_t length = random.one_in(3) ? random.between(300, 600) : random.below(12);
    text_ = reinterpret_cast<char *>(pages_.begin + pages_.size - length - 1);
    for (int64_t i = 0; i < length; ++i) text_[i] = char(random.between(1, 255));
    text_[length] = 0;
  }
  ~Text() { conformance::give_back_pages(pages_); }
  Text(const Text &) = delete;
  Text &operator=(const Text &) = delete;
  const char *get() const { return text_; }

 private:
  conformance::Pages pages_;
  char *text_;
};

std::string fuzz_memory(Random &random) {
  void *const untouched = &random;
  const DLDevice device = any_device(random), other = any_device(random);
  const size_t bytes = size_t(random.one_in(3) ? 0 : random.below(100000));
  void *data = untouched;
  const bnb_status status =
      (random.one_in(2) ? bnb_allocate : bnb_allocate_managed)(device, bytes, random.one_in(9) ? nullptr : &data);
  if (status != BNB_OK) return data == untouched ? "" : "a failed bnb_allocate wrote to data";
  if (!may_be_there(device)) return "bnb_allocate succeeded on a device that is not there";
  if ((data == nullptr) != (bytes == 0)) return "bnb_allocate gave no data, or data for 0 bytes";
  if (bytes && is_cpu(device)) std::memset(data, 1, bytes);
  std::vector<char> source(bytes + 1, 2), back(bytes + 1, 3);
  const void *from = random.one_in(9) ? nullptr : source.data();
  const DLDevice origin = may_be_there(other) ? kCpu : other;  // what is copied is host memory
  const bool copied = bnb_copy(device, data, origin, from, bytes, nullptr) == BNB_OK;
  if (bnb_copy(kCpu, back.data(), device, data, bytes, nullptr) != BNB_OK) return "bnb_copy to the host failed";
  const bool same = bytes == 0 || std::memcmp(back.data(), source.data(), bytes) == 0;
  bnb_prefetch(data, bytes, other, nullptr);
  bnb_synchronize(other, nullptr);
  if (bnb_free(device, data) != BNB_OK) return "bnb_free failed";
  return copied && !same ? "bnb_copy did not copy" : "";
}

}  // namespace

std::string fuzz_operation(Random &random, Tallies *tallies) {
  const int index = int(random.below(conformance::sample_count()));
  HostileCall call(conformance::sample(index, random.one_in(10) ? 5000 : 200, random), random);
  const int64_t mutations = random.below(5);
  for (int64_t i = 0; i < mutations; ++i) call.mutate();
  const Outcome outcome = call.run();
  Tally &tally = (*tallies)[call.function()];
  tally.accepted += outcome == Outcome::kAccepted;
  tally.refused += outcome == Outcome::kRefused;
  tally.not_run += outcome == Outcome::kNotRun;
  return outcome == Outcome::kWrong ? call.problem() + "\n     " + call.describe() : "";
}

std::string fuzz_services(Random &random, Tallies *tallies) {
  ++(*tallies)["services"].accepted;
  const Text text(random);
  const int32_t number = random.one_in(2) ? int32_t(random.between(-2, 300)) : int32_t(random.bits());
  const char *name = bnb_backend_name(number);
  if (name && bnb_device_count(name) < 0) return "bnb_device_count is negative";
  name = bnb_isa_name(number);
  if (name && !bnb_isa_available(name) && std::strcmp(name, "reference") == 0) return "the reference is not available";
  if (bnb_isa_available(text.get()) || bnb_device_count(text.get())) return "a random text names something";
  if (bnb_set_isa(text.get()) == BNB_OK) return "bnb_set_isa took a random text";
  if (std::strncmp(bnb_last_error(), "bnb_set_isa: ", 13) != 0) return "the error of bnb_set_isa does not name it";
  if (!bnb_status_name(bnb_status(number))) return "bnb_status_name is NULL";
  const bool plausible = number >= 0 && number <= 256;
  if ((bnb_set_num_threads(number) == BNB_OK) != plausible) return "bnb_set_num_threads took or refused a wrong number";
  if (bnb_get_num_threads() < 1) return "bnb_get_num_threads is below 1";
  bnb_set_num_threads(1 + number % 3 * (number > 0));
  float code[256];
  if (bnb_create_dynamic_map(number, random.one_in(5) ? nullptr : code) == BNB_OK && !(code[255] == 1.0f)) {
    return "bnb_create_dynamic_map gave no map";
  }
  return fuzz_memory(random);
}

std::string fuzz_one(Random &random, Tallies *tallies) {
  const int64_t kind = random.below(8);
  if (kind == 0) return fuzz_services(random, tallies);
  return kind <= 2 ? fuzz_bare_pointers(random, tallies) : fuzz_operation(random, tallies);
}

}  // namespace fuzz
