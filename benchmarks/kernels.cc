// SPDX-License-Identifier: MIT
// Times the quantizers through the C ABI, per dtype, block size, instruction set and thread count, against a copy in the same run.
//
//   c++ -std=c++17 -O2 kernels.cc $(pkg-config --cflags --libs libbnb) -lpthread && ./a.out --help
//
// Buffers rotate over more than the last-level cache, so every call works from memory. A row alternates between the operation and a
// memcpy on as many threads; the ratio is that of the medians, in bytes read plus bytes written a second.
#include <bnb/bnb.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Options {
  int64_t elements = 0;  // 4096 for small calls, else 16M
  int repeats = 15;
  std::string filter;
  std::vector<std::string> isas;
  std::vector<int> threads{1, 2};
  bool small = false;
};

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct Buffer {
  void *data = nullptr;
  explicit Buffer(size_t bytes) {
    if (bnb_allocate({kDLCPU, 0}, bytes, &data) != BNB_OK) {
      std::fprintf(stderr, "%s\n", bnb_last_error());
      std::exit(1);
    }
    std::memset(data, 0, bytes);
  }
  Buffer(Buffer &&other) : data(other.data) { other.data = nullptr; }
  ~Buffer() { bnb_free({kDLCPU, 0}, data); }
};

struct Tensor : DLTensor {
  int64_t length;
  Tensor(void *data_, DLDataType dtype_, int64_t n) : DLTensor{}, length(n) {
    data = data_;
    device = {kDLCPU, 0};
    ndim = 1;
    dtype = dtype_;
    shape = &length;
  }
  Tensor(const Tensor &) = delete;
};

struct Dtype {
  const char *name;
  DLDataType dtype;
  int64_t size;
};
const Dtype kDtypes[] = {{"fp32", {kDLFloat, 32, 1}, 4}, {"bf16", {kDLBfloat, 16, 1}, 2}, {"fp16", {kDLFloat, 16, 1}, 2}};
const DLDataType kFloat32 = {kDLFloat, 32, 1}, kUint8 = {kDLUInt, 8, 1};

// Normal numbers in the dtype: the upper half of the fp32 bits is the bf16, and fp16 is made from its exponent and fraction.
void fill_normal(void *data, const Dtype &dtype, int64_t n) {
  constexpr int64_t kPeriod = 1 << 20;  // repeated: what matters is that branches and tables see varied values
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < std::min(n, kPeriod); ++i) {
    const float x = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const int32_t exponent = int32_t((bits >> 23) & 0xFF) - 112;
    const uint16_t half = exponent > 0 ? uint16_t(((bits >> 16) & 0x8000) | (exponent << 10) | ((bits >> 13) & 0x3FF)) : 0;
    const uint16_t brain = uint16_t(bits >> 16);
    if (dtype.size == 4) std::memcpy(static_cast<char *>(data) + i * 4, &x, 4);
    if (dtype.size == 2) std::memcpy(static_cast<char *>(data) + i * 2, dtype.dtype.code == kDLBfloat ? &brain : &half, 2);
  }
  for (int64_t i = kPeriod; i < n; i += kPeriod) {
    std::memcpy(static_cast<char *>(data) + i * dtype.size, data, size_t(std::min(kPeriod, n - i) * dtype.size));
  }
}

struct Operation {
  const char *name;
  int64_t in_halves, out_halves;  // half bytes per element of the packed side; 0: the dtype's own size
  bnb_status (*run)(DLTensor *in, DLTensor *absmax, const DLTensor *code, int64_t blocksize, DLTensor *out);
};

const Operation kOperations[] = {
    {"quantize_nf4", 0, 1,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *, int64_t blocksize, DLTensor *out) {
       return cquantize_4bit(in, BNB_NF4, blocksize, out, absmax, nullptr);
     }},
    {"quantize_fp4", 0, 1,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *, int64_t blocksize, DLTensor *out) {
       return cquantize_4bit(in, BNB_FP4, blocksize, out, absmax, nullptr);
     }},
    {"dequantize_nf4", 1, 0,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *, int64_t blocksize, DLTensor *out) {
       return cdequantize_4bit(in, absmax, nullptr, BNB_NF4, blocksize, out, nullptr);
     }},
    {"quantize_blockwise", 0, 2,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *code, int64_t blocksize, DLTensor *out) {
       return cquantize_blockwise(in, code, blocksize, out, absmax, nullptr);
     }},
    {"dequantize_blockwise", 2, 0,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *code, int64_t blocksize, DLTensor *out) {
       return cdequantize_blockwise(in, absmax, code, blocksize, out, nullptr);
     }},
    {"quantize_fp8", 0, 2,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *, int64_t blocksize, DLTensor *out) {
       return cquantize_fp8(in, BNB_FP8_E4M3FN, blocksize, out, absmax, nullptr);
     }},
    {"dequantize_fp8", 2, 0,
     [](DLTensor *in, DLTensor *absmax, const DLTensor *, int64_t blocksize, DLTensor *out) {
       return cdequantize_fp8(in, absmax, BNB_FP8_E4M3FN, blocksize, out, nullptr);
     }},
};

void copy_on_threads(void *to, const void *from, size_t bytes, int threads) {
  std::vector<std::thread> others;
  const size_t part = bytes / size_t(threads);
  for (int i = 1; i < threads; ++i) {
    others.emplace_back([=] { std::memcpy(static_cast<char *>(to) + i * part, static_cast<const char *>(from) + i * part, part); });
  }
  std::memcpy(to, from, part);
  for (std::thread &other : others) other.join();
}

size_t cache_bytes() {
  const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return size > 0 ? size_t(size) : size_t(64) << 20;
}

void check(bnb_status status) {
  if (status == BNB_OK) return;
  std::fprintf(stderr, "%s\n", bnb_last_error());
  std::exit(1);
}

void measure(const Options &options, const Operation &op, const Dtype &dtype, int64_t blocksize, const DLTensor *code) {
  const int64_t n = options.elements ? options.elements : options.small ? 4096 : 16 << 20, nb = (n + blocksize - 1) / blocksize;
  const auto bytes_of = [&](int64_t halves) { return halves ? (n * halves + 1) / 2 : n * dtype.size; };
  const auto type_of = [&](int64_t halves) { return halves ? kUint8 : dtype.dtype; };
  const int64_t in_bytes = bytes_of(op.in_halves), out_bytes = bytes_of(op.out_halves), moved = in_bytes + out_bytes + nb * 4;
  const size_t sets = options.small ? 1 : 2 + size_t(double(cache_bytes()) * 1.2) / size_t(moved);

  std::vector<Buffer> inputs, outputs, scales;
  for (size_t i = 0; i < sets; ++i) {
    inputs.emplace_back(size_t(in_bytes));
    outputs.emplace_back(size_t(out_bytes));
    scales.emplace_back(size_t(nb) * 4);
    if (op.in_halves) {
      std::mt19937 random{unsigned(i)};
      for (int64_t j = 0; j + 4 <= in_bytes; j += 4) {
        const uint32_t word = random() & 0x77777777u;  // neither NaN nor infinity in any format
        std::memcpy(static_cast<char *>(inputs[i].data) + j, &word, 4);
      }
      for (int64_t j = 0; j < nb; ++j) static_cast<float *>(scales[i].data)[j] = 1.0f + float(j % 7);
    } else {
      fill_normal(inputs[i].data, dtype, n);
    }
  }
  const size_t copied = options.small ? 64 : size_t(32) << 20;
  std::vector<Buffer> from, to;
  for (size_t i = 0; i < (options.small ? 1 : 2 + cache_bytes() * 6 / 5 / (2 * copied)); ++i) {
    from.emplace_back(copied);
    to.emplace_back(copied);
  }

  for (const std::string &isa : options.isas) {
    if (!bnb_isa_available(isa.c_str())) continue;
    check(bnb_set_isa(isa.c_str()));
    for (int threads : options.threads) {
      check(bnb_set_num_threads(threads));
      size_t turn = 0;
      const auto once = [&] {
        const size_t i = turn++ % sets;
        Tensor in(inputs[i].data, type_of(op.in_halves), op.in_halves ? in_bytes : n);
        Tensor out(outputs[i].data, type_of(op.out_halves), op.out_halves ? out_bytes : n);
        Tensor absmax(scales[i].data, kFloat32, nb);
        check(op.run(&in, &absmax, code, blocksize, &out));
      };
      once();
      std::vector<double> times, copies;
      const int calls = options.small ? 500 : 1;
      for (int repeat = 0; repeat < options.repeats * (options.small ? 20 : 1); ++repeat) {
        const double start = now();
        for (int call = 0; call < calls; ++call) once();
        const double middle = now();
        copy_on_threads(to[size_t(repeat) % to.size()].data, from[size_t(repeat) % to.size()].data, copied, threads);
        times.push_back((middle - start) / calls);
        copies.push_back(now() - middle);
      }
      const double time = median(times), copy_rate = 2 * double(copied) / median(copies);
      std::printf("%-21s %s  block %-8lld %-12s %d thread%s", op.name, dtype.name, (long long)blocksize, isa.c_str(), threads,
                  threads == 1 ? " " : "s");
      if (options.small) {
        std::printf("  %7.0f ns a call of %lld elements (best %.0f)\n", time * 1e9, (long long)n,
                    *std::min_element(times.begin(), times.end()) * 1e9);
      } else {
        std::printf("  %6.2f G elements/s  %6.1f GB/s  copy %6.1f GB/s  ratio %.2f\n", double(n) / time / 1e9,
                    double(moved) / time / 1e9, copy_rate / 1e9, double(moved) / time / copy_rate);
      }
      std::fflush(stdout);
    }
  }
  bnb_set_isa(nullptr);
  bnb_set_num_threads(0);
}

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 0; bnb_isa_name(i); ++i) options.isas.push_back(bnb_isa_name(i));
  options.isas.erase(options.isas.begin());  // "reference" is for reading, and takes minutes
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (name == "--small") {
      options.small = true;
      continue;
    }
    if (name == "--filter") options.filter = value;
    else if (name == "--elements") options.elements = std::atoll(value);
    else if (name == "--repeats") options.repeats = std::max(1, std::atoi(value));
    else if (name == "--isa") options.isas = {value};
    else if (name == "--threads") options.threads = {std::atoi(value)};
    else {
      std::printf("kernels [--filter TEXT] [--isa NAME] [--threads N] [--elements N] [--repeats N] [--small]\n"
                  "  --filter: rows that contain TEXT, such as \"quantize_nf4 bf16\".  --small: calls of 64x64 elements.\n");
      std::exit(name == "--help" ? 0 : 2);
    }
    ++i;
  }
  return options;
}

}  // namespace

int main(int argc, char **argv) {
  const Options options = parse(argc, argv);
  Buffer code_values(1024);
  Tensor code(code_values.data, kFloat32, 256);
  check(bnb_create_dynamic_map(1, static_cast<float *>(code_values.data)));
  for (const Operation &op : kOperations) {
    for (const Dtype &dtype : kDtypes) {
      const bool is_4bit = op.in_halves == 1 || op.out_halves == 1;
      for (int64_t blocksize : is_4bit ? std::vector<int64_t>{64} : std::vector<int64_t>{256, 4096}) {
        const std::string row = std::string(op.name) + " " + dtype.name + " block " + std::to_string(blocksize);
        if (row.find(options.filter) != std::string::npos) measure(options, op, dtype, blocksize, &code);
      }
    }
  }
}
