// SPDX-License-Identifier: MIT
// The functions of bitsandbytes.h, whose pointers say neither what nor where they are: the same results with host memory, with a
// device's, with managed memory and with any mixture.
#include <bnb/bitsandbytes.h>

#include <memory>

#include "codes.h"
#include "suite.h"

using namespace conformance;

namespace {

template <typename T>
T *at(const DLTensor *tensor) {
  return reinterpret_cast<T *>(static_cast<char *>(tensor->data) + tensor->byte_offset);
}

bnb_status status_of(int result) { return result == 0 ? BNB_OK : BNB_ERROR_INTERNAL; }

// Managed memory with a tensor in it.
class Managed {
 public:
  Managed(const Tensor &tensor, DLDevice device) : tensor_(tensor), device_(device) {
    usable_ = bnb_allocate_managed(device, size_t(tensor.span() + 1), &data_) == BNB_OK;
    if (!usable_) return;
    std::memset(data_, 0x5A, size_t(tensor.span()));
    if (!tensor.content.empty()) std::memcpy(data_, tensor.content.data(), tensor.content.size());
    descriptor_.data = data_;
  }
  ~Managed() { bnb_free(device_, data_); }
  Managed(const Managed &) = delete;
  Managed &operator=(const Managed &) = delete;

  bool usable() const { return usable_; }
  DLTensor *descriptor() { return &descriptor_; }
  void fetch(Bytes *content) const {
    const auto *bytes = static_cast<const uint8_t *>(data_);
    if (tensor_.output) content->assign(bytes, bytes + tensor_.span());
  }

 private:
  const Tensor &tensor_;
  const DLDevice device_;
  void *data_ = nullptr;
  bool usable_;
  DLTensor descriptor_{};
};

// Runs a call; bit i of `homes` is set if tensor i is on the device and not in host memory.
std::string run_mixed(const Call &call, const Target &target, uint32_t homes, const Placement &placement, std::vector<Bytes> *results) {
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<DLTensor *> tensors;
  for (size_t i = 0; i < call.tensors.size(); ++i) {
    const DLDevice device = homes >> i & 1 ? target.device : DLDevice{kDLCPU, 0};
    buffers.push_back(std::make_unique<Buffer>(call.tensors[i], device, placement));
    if (!buffers.back()->usable()) return bnb_last_error();
    tensors.push_back(buffers.back()->descriptor());
  }
  const bnb_status status = call.invoke(tensors.data());
  const bool unsupported = status != BNB_OK && std::strstr(bnb_last_error(), "backend has no kernel");  // cigemmlt_* say 1 for all errors
  if (unsupported) return std::string("UNSUPPORTED: ") + bnb_last_error();
  if (status != BNB_OK) return std::string(bnb_status_name(status)) + ": " + bnb_last_error();
  if (bnb_synchronize(target.device, nullptr) != BNB_OK) return bnb_last_error();
  results->assign(call.tensors.size(), {});
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (const char *damage = buffers[i]->fetch(&(*results)[i])) return std::string(call.tensors[i].name) + ": " + damage;
  }
  return "";
}

std::string run_managed(const Call &call, const Target &target, std::vector<Bytes> *results) {
  std::vector<std::unique_ptr<Managed>> memory;
  std::vector<DLTensor *> tensors;
  for (const Tensor &tensor : call.tensors) {
    memory.push_back(std::make_unique<Managed>(tensor, target.device));
    if (!memory.back()->usable()) return bnb_last_error();
    tensors.push_back(memory.back()->descriptor());
  }
  if (call.invoke(tensors.data()) != BNB_OK) return bnb_last_error();
  if (bnb_synchronize(target.device, nullptr) != BNB_OK) return bnb_last_error();
  results->assign(call.tensors.size(), {});
  for (size_t i = 0; i < memory.size(); ++i) memory[i]->fetch(&(*results)[i]);
  return "";
}

void check(Suite &suite, const std::string &name, const Suite::Make &make) {
  suite.check_on_each("bitsandbytes/" + name, [&](const Target &target, Random &random) -> std::string {
    const Call call = make(random);
    std::vector<Bytes> want, got;
    const Target reference{"cpu/reference", {kDLCPU, 0}, "reference"};
    std::string problem = run(call, reference, kPlain, &want);
    if (target.isa) return problem.empty() ? run(call, target, kPlain, &got).append(compare(call, got, want)) : problem;
    const uint32_t all = (1u << call.tensors.size()) - 1;
    std::vector<uint32_t> mixtures{0, all};
    for (int i = 0; i < 4; ++i) mixtures.push_back(uint32_t(random.bits()) & all);
    for (const uint32_t homes : mixtures) {
      Placement placement = kPlain;
      placement.misaligned = random.below(4);
      if (problem.empty()) problem = run_mixed(call, target, homes, placement, &got);
      if (problem.empty()) problem = compare(call, got, want);
      if (problem.compare(0, 12, "UNSUPPORTED:") == 0) return problem;
      if (!problem.empty()) return problem + "\n     on the device: tensors " + std::to_string(homes) + " (bits)";
    }
    problem = run_managed(call, target, &got);
    if (problem.empty()) problem = compare(call, got, want);
    return problem.empty() ? "" : problem + "\n     in managed memory";
  });
}

constexpr int kN = 1000, kBlocksize = 64, kBlocks = 16;

Bytes normal(DLDataType dtype, int64_t n, Random &random) { return filled(Fill::kNormal, dtype, n, 64, {}, random); }
Bytes code(Random &random) { return bytes_of(values_of(Code::kDynamicSigned, random)); }

// Whole numbers from -limit to limit, of which every product and sum is exact.
Bytes whole(DLDataType dtype, int64_t n, int limit, Random &random) {
  Bytes bytes(static_cast<size_t>(n * size_of(dtype)));
  for (int64_t i = 0; i < n; ++i) {
    const int x = int(random.between(-limit, limit));
    if (dtype.code == kDLInt && dtype.bits == 8) bytes[size_t(i)] = uint8_t(int8_t(x));
    if (dtype.code == kDLInt && dtype.bits == 32) std::memcpy(&bytes[size_t(i) * 4], &x, 4);
    const float value = float(x);
    if (dtype.code == kDLFloat && dtype.bits == 32) std::memcpy(&bytes[size_t(i) * 4], &value, 4);
  }
  return bytes;
}

void check_quantizers(Suite &suite) {
  check(suite, "cquantize_blockwise_fp16", [](Random &random) {
    Call call;
    call.input("code", kF32, {256}, code(random));
    call.input("A", kF16, {kN}, normal(kF16, kN, random));
    call.output("absmax", kF32, {kBlocks});
    call.output("out", kU8, {kN});
    call.source = 1;
    call.invoke = [](DLTensor *const *t) {
      return cquantize_blockwise_fp16(at<float>(t[0]), at<bnb_fp16>(t[1]), at<float>(t[2]), at<uint8_t>(t[3]), kBlocksize, kN);
    };
    return call;
  });
  check(suite, "cdequantize_blockwise_fp32", [](Random &random) {
    Call call;
    call.input("code", kF32, {256}, code(random));
    call.input("A", kU8, {kN}, random_bytes(kN, random));
    call.input("absmax", kF32, {kBlocks}, bytes_of(scales(kBlocks, random)));
    call.output("out", kF32, {kN}, Nan::kAny);
    call.invoke = [](DLTensor *const *t) {
      return cdequantize_blockwise_fp32(at<float>(t[0]), at<uint8_t>(t[1]), at<float>(t[2]), at<float>(t[3]), kBlocksize, kN, nullptr);
    };
    return call;
  });
  check(suite, "cquantize_blockwise_bf16_nf4", [](Random &random) {
    Call call;
    call.input("A", kBF16, {kN}, normal(kBF16, kN, random));
    call.output("absmax", kF32, {kBlocks});
    call.output("out", kU8, {kN / 2});
    call.invoke = [](DLTensor *const *t) {
      return cquantize_blockwise_bf16_nf4(nullptr, at<bnb_bf16>(t[0]), at<float>(t[1]), at<uint8_t>(t[2]), kBlocksize, kN);
    };
    return call;
  });
  check(suite, "cdequantize_blockwise_fp16_fp4", [](Random &random) {
    Call call;
    call.input("A", kU8, {kN / 2}, random_bytes(kN / 2, random));
    call.input("absmax", kF32, {kBlocks}, bytes_of(scales(kBlocks, random)));
    call.output("out", kF16, {kN}, Nan::kAny);
    call.invoke = [](DLTensor *const *t) {
      return cdequantize_blockwise_fp16_fp4(nullptr, at<uint8_t>(t[0]), at<float>(t[1]), at<bnb_fp16>(t[2]), kBlocksize, kN, nullptr);
    };
    return call;
  });
  check(suite, "cdequantize", [](Random &random) {
    Call call;
    call.input("code", kF32, {256}, bytes_of(any_floats(256, random)));
    call.input("A", kU8, {kN}, random_bytes(kN, random));
    call.output("out", kF32, {kN}, Nan::kAny);
    call.invoke = [](DLTensor *const *t) { return cdequantize(at<float>(t[0]), at<uint8_t>(t[1]), at<float>(t[2]), kN, nullptr); };
    return call;
  });
  check(suite, "cquantize", [](Random &random) {
    Call call;
    call.input("code", kF32, {256}, code(random));
    call.input("A", kF32, {kN}, normal(kF32, kN, random));
    call.output("out", kU8, {kN});
    call.invoke = [](DLTensor *const *t) { return cquantize(at<float>(t[0]), at<float>(t[1]), at<uint8_t>(t[2]), kN); };
    return call;
  });
}

void check_int8(Suite &suite) {
  constexpr int kRows = 7, kCols = 65;
  check(suite, "cint8_vector_quant", [](Random &random) {
    Call call;
    call.input("A", kF16, {kRows, kCols}, normal(kF16, kRows * kCols, random));
    call.output("out", kI8, {kRows, kCols});
    call.output("row_stats", kF32, {kRows});
    call.invoke = [](DLTensor *const *t) {
      return cint8_vector_quant(at<bnb_fp16>(t[0]), at<int8_t>(t[1]), at<float>(t[2]), 2.5f, kRows, kCols, nullptr);
    };
    return call;
  });
  check(suite, "cget_col_row_stats", [](Random &random) {
    Call call;
    call.input("A", kF16, {kRows, kCols}, normal(kF16, kRows * kCols, random));
    call.output("row_stats", kF32, {kRows});
    call.output("col_stats", kF32, {kCols});
    call.output("nnz_count_row", kI32, {kRows + 1});
    call.invoke = [](DLTensor *const *t) {
      return cget_col_row_stats(at<bnb_fp16>(t[0]), at<float>(t[1]), at<float>(t[2]), at<int>(t[3]), 2.5f, kRows, kCols);
    };
    return call;
  });
  check(suite, "cdouble_rowcol_quant", [](Random &random) {
    // One outlier in every row, in column 3.
    std::vector<float> values(kRows * kCols);
    for (size_t i = 0; i < values.size(); ++i) values[i] = i % kCols == 3 ? 8.0f : float(random.between(-4, 4));
    Bytes halves(values.size() * 2);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t sign = values[i] < 0 ? 0x8000 : 0, table[] = {0, 0x3C00, 0x4000, 0x4200, 0x4400, 0, 0, 0, 0x4800};
      const uint16_t bits = uint16_t(sign | table[int(std::fabs(values[i]))]);
      std::memcpy(&halves[2 * i], &bits, 2);
    }
    std::vector<int32_t> offsets(kRows + 1);
    for (int i = 0; i <= kRows; ++i) offsets[size_t(i)] = i;
    Call call;
    call.input("A", kF16, {kRows, kCols}, halves);
    call.input("row_stats", kF32, {kRows}, bytes_of(std::vector<float>(kRows, 4.0f)));
    call.input("col_stats", kF32, {kCols}, bytes_of(std::vector<float>(kCols, 4.0f)));
    call.output("out_col", kI8, {kRows, kCols});
    call.output("out_row", kI8, {kRows, kCols});
    call.output("rowidx", kI32, {kRows});
    call.output("colidx", kI32, {kRows});
    call.output("val", kF16, {kRows});
    call.input("nnz_row_ptr", kI32, {kRows + 1}, bytes_of(offsets));
    call.invoke = [](DLTensor *const *t) {
      return cdouble_rowcol_quant(at<bnb_fp16>(t[0]), at<float>(t[1]), at<float>(t[2]), at<int8_t>(t[3]), at<int8_t>(t[4]), at<int>(t[5]),
                                  at<int>(t[6]), at<bnb_fp16>(t[7]), at<int>(t[8]), 6.0f, kRows, kCols);
    };
    return call;
  });
  check(suite, "cdequant_mm_int32_fp16", [](Random &random) {
    Call call;
    call.input("A", kI32, {kRows, kCols}, whole(kI32, kRows * kCols, 100000, random));
    call.input("row_stats", kF32, {kRows}, normal(kF32, kRows, random));
    call.input("col_stats", kF32, {kCols}, normal(kF32, kCols, random));
    call.input("bias", kF16, {kCols}, normal(kF16, kCols, random));
    call.output("out", kF16, {kRows, kCols});
    call.invoke = [](DLTensor *const *t) {
      return cdequant_mm_int32_fp16(at<int>(t[0]), at<float>(t[1]), at<float>(t[2]), at<bnb_fp16>(t[4]), at<bnb_fp16>(t[3]), kRows, kCols,
                                    nullptr);
    };
    return call;
  });
}

constexpr int kM = 5, kNOut = 9, kK = 70, kGap = 3;

void check_int8_products(Suite &suite) {
  for (const bool transposeA : {false, true}) {
    for (const bool transposeB : {false, true}) {
      const std::string flags = std::string(transposeA ? "t" : "n") + (transposeB ? "t" : "n");
      check(suite, "cbatched_igemm/" + flags, [=](Random &random) {
        const int rowsA = transposeA ? kK : kM, colsA = transposeA ? kM : kK;
        const int rowsB = transposeB ? kNOut : kK, colsB = transposeB ? kK : kNOut;
        const int lda = rowsA + kGap, ldb = rowsB + kGap;
        Call call;
        call.input("A", kI8, {2, colsA, lda}, whole(kI8, 2 * colsA * lda, 127, random));
        call.input("B", kI8, {2, colsB, ldb}, whole(kI8, 2 * colsB * ldb, 127, random));
        call.updated("C", kI32, {2, kNOut, kM + 1}, whole(kI32, 2 * kNOut * (kM + 1), 9, random));  // with a gap that stays
        call.invoke = [=](DLTensor *const *t) {
          return cbatched_igemm(get_context(), transposeA, transposeB, kM, kNOut, kK, at<int8_t>(t[0]), at<int8_t>(t[1]), at<int>(t[2]),
                                lda, ldb, kM + 1, colsA * lda, colsB * ldb, kNOut * (kM + 1), 2);
        };
        return call;
      });
    }
  }
  check(suite, "cigemmlt_8_rowscale", [](Random &random) {
    Call call;
    call.input("A", kI8, {kNOut, kK}, whole(kI8, kNOut * kK, 20, random));
    call.input("B", kI8, {kM, kK}, whole(kI8, kM * kK, 20, random));
    call.input("row_scale", kF32, {kNOut}, bytes_of(std::vector<float>(kNOut, 0.0625f)));
    call.updated("C", kI8, {kM, kNOut + 2}, whole(kI8, kM * (kNOut + 2), 9, random));
    call.invoke = [](DLTensor *const *t) {
      return status_of(cigemmlt_8_rowscale(get_context(), kK, kM, kNOut, at<int8_t>(t[0]), at<int8_t>(t[1]), at<int8_t>(t[3]),
                                           at<float>(t[2]), kK, kK, kNOut + 2, nullptr));
    };
    return call;
  });
}

// The codes of NF4 for -1, 0 and 1 alone, so that sums are exact in any order.
Bytes weights(Random &random) {
  const uint8_t codes[] = {0, 7, 15};
  Bytes packed(kNOut * kK / 2);
  for (uint8_t &byte : packed) byte = uint8_t(codes[random.below(3)] << 4 | codes[random.below(3)]);
  return packed;
}

void check_products(Suite &suite) {
  check(suite, "cgemm_4bit_fp32/nested", [](Random &random) {
    Call call;
    call.input("A", kF32, {kM, kK}, whole(kF32, kM * kK, 9, random));
    call.input("B", kU8, {kNOut * kK / 2}, weights(random));
    call.input("absmax_8bit", kU8, {10}, Bytes(10, 255));
    call.input("absmax_code", kF32, {256}, code(random));
    call.input("absmax", kF32, {1}, bytes_of(std::vector<float>{1.0f}));
    call.input("absmax_offset", kF32, {1}, bytes_of(std::vector<float>{1.0f}));
    call.input("bias", kF32, {kNOut}, whole(kF32, kNOut, 5, random));
    call.output("out", kF32, {kM, kNOut});
    call.invoke = [](DLTensor *const *t) {
      return cgemm_4bit_fp32(at<float>(t[0]), at<uint8_t>(t[1]), at<float>(t[4]), at<uint8_t>(t[2]), at<float>(t[3]), at<float>(t[5]),
                             at<float>(t[7]), at<float>(t[6]), kM, kNOut, kK, kBlocksize, BNB_NF4, nullptr);
    };
    return call;
  });
  check(suite, "cgemv_4bit_inference_fp32", [](Random &random) {
    std::vector<float> codebook{-1.0f,        -0.6961928009986877f,   -0.5250730514526367f,  -0.39491748809814453f,
                                -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                0.07958029955625534f,  0.16093020141124725f,  0.24611230194568634f,  0.33791524171829224f,
                                0.44070982933044434f,  0.5626170039176941f,   0.7229568362236023f,   1.0f};
    Call call;
    call.input("A", kF32, {kK}, whole(kF32, kK, 9, random));
    call.input("B", kU8, {kNOut * kK / 2}, weights(random));
    call.input("absmax", kF32, {10}, bytes_of(std::vector<float>(10, 2.0f)));
    call.input("datatype", kF32, {16}, bytes_of(codebook));
    call.output("out", kF32, {kNOut});
    call.invoke = [](DLTensor *const *t) {
      return cgemv_4bit_inference_fp32(1, kNOut, kK, at<float>(t[0]), at<uint8_t>(t[1]), at<float>(t[2]), at<float>(t[3]), at<float>(t[4]),
                                       kNOut, kK / 2, kNOut, kBlocksize, nullptr);
    };
    return call;
  });
  check(suite, "cspmm_coo", [](Random &random) {
    constexpr int kValues = 12;
    std::vector<int32_t> rows(kValues), cols(kValues);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = int32_t(i) / 3, cols[i] = int32_t(random.below(kK));
    const Bytes ones = [] {
      Bytes bytes;
      for (int i = 0; i < kK * kNOut; ++i) bytes.insert(bytes.end(), {0x00, 0x3C});
      return bytes;
    }();
    Call call;
    call.input("rowidx", kI32, {kValues}, bytes_of(rows));
    call.input("colidx", kI32, {kValues}, bytes_of(cols));
    call.input("values", kF16, {kValues}, Bytes(ones.begin(), ones.begin() + 2 * kValues));
    call.input("B", kF16, {kK, kNOut}, ones);
    call.updated("C", kF16, {kM, kNOut + 1}, Bytes(kM * (kNOut + 1) * 2, 0x11));
    call.invoke = [](DLTensor *const *t) {
      return cspmm_coo(get_cusparse(), at<int>(t[0]), at<int>(t[1]), at<bnb_fp16>(t[2]), kValues, kM, kK, kNOut, kNOut, at<bnb_fp16>(t[3]),
                       kNOut + 1, at<bnb_fp16>(t[4]), false);
    };
    return call;
  });
}

void check_optimizers(Suite &suite) {
  check(suite, "cadam32bit_grad_fp16", [](Random &random) {
    Call call;
    call.input("g", kF16, {kN}, normal(kF16, kN, random));
    call.updated("p", kF16, {kN}, normal(kF16, kN, random));
    call.updated("state1", kF32, {kN}, Bytes(kN * 4));
    call.updated("state2", kF32, {kN}, Bytes(kN * 4));
    call.updated("unorm", kF32, {1}, Bytes(4));
    call.invoke = [](DLTensor *const *t) {
      return cadam32bit_grad_fp16(at<bnb_fp16>(t[0]), at<bnb_fp16>(t[1]), at<float>(t[2]), at<float>(t[3]), at<float>(t[4]), 0.5f, 3.0f,
                                  0.9f, 0.999f, 0.0f, 0.0f, 1e-8f, 0.01f, 1, 0.1f, 1.0f, false, kN);
    };
    return call;
  });
  check(suite, "clion_8bit_blockwise_grad_bf16", [](Random &random) {
    Call call;
    call.updated("p", kBF16, {kN}, normal(kBF16, kN, random));
    call.input("g", kBF16, {kN}, normal(kBF16, kN, random));
    call.updated("state1", kU8, {kN}, random_bytes(kN, random));
    call.input("quantiles1", kF32, {256}, code(random));
    call.updated("absmax1", kF32, {4}, bytes_of(std::vector<float>{1.0f, 0.5f, 2.0f, 0.0f}));
    call.invoke = [](DLTensor *const *t) {
      auto *const anything = reinterpret_cast<uint8_t *>(uintptr_t(64));  // a state that Lion has not
      return clion_8bit_blockwise_grad_bf16(at<bnb_bf16>(t[0]), at<bnb_bf16>(t[1]), at<uint8_t>(t[2]), anything, 0.9f, 0.99f, 0.0f, 0.0f,
                                            1e-8f, 3, 0.1f, at<float>(t[3]), nullptr, at<float>(t[4]), nullptr, 0.0f, 1.0f, false, kN);
    };
    return call;
  });
}

void check_tools(Suite &suite) {
  check(suite, "cpercentile_clipping_g32", [](Random &random) {
    Call call;
    call.input("g", kF32, {kN}, normal(kF32, kN, random));
    call.updated("gnorm_vec", kF32, {100}, normal(kF32, 100, random));
    call.invoke = [](DLTensor *const *t) { return cpercentile_clipping_g32(at<float>(t[0]), at<float>(t[1]), 205, kN); };
    return call;
  });
  check(suite, "cestimate_quantiles_fp32", [](Random &random) {
    Call call;
    call.input("A", kF32, {kN}, normal(kF32, kN, random));
    call.output("code", kF32, {256});
    call.invoke = [](DLTensor *const *t) { return cestimate_quantiles_fp32(at<float>(t[0]), at<float>(t[1]), 0.01f, kN); };
    return call;
  });
  check(suite, "chistogram_scatter_add_2d", [](Random &random) {
    constexpr int kRows = 6, kCols = 11, kAdded = 300;
    std::vector<int32_t> rows(kAdded), cols(kAdded);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = int32_t(random.below(kRows)), cols[i] = int32_t(random.below(kCols));
    Call call;
    call.updated("histogram", kF32, {kRows, kCols}, whole(kF32, kRows * kCols, 9, random));
    call.input("index1", kI32, {kAdded}, bytes_of(rows));
    call.input("index2", kI32, {kAdded}, bytes_of(cols));
    call.input("source", kF32, {kAdded}, whole(kF32, kAdded, 9, random));
    call.invoke = [](DLTensor *const *t) {
      return chistogram_scatter_add_2d(at<float>(t[0]), at<int>(t[1]), at<int>(t[2]), at<float>(t[3]), kCols, kAdded);
    };
    return call;
  });
  check(suite, "cfill_uint8", [](Random &) {
    Call call;
    call.output("A", kU8, {kN});
    call.invoke = [](DLTensor *const *t) { return cfill_uint8(at<uint8_t>(t[0]), nullptr, 77, kN); };
    return call;
  });
  check(suite, "c_mul_fp32", [](Random &random) {
    Call call;
    call.updated("A", kF32, {kN}, normal(kF32, kN, random));
    call.input("B", kF32, {kN}, normal(kF32, kN, random));
    call.invoke = [](DLTensor *const *t) { return c_mul_fp32(at<float>(t[0]), at<float>(t[1]), 0.0f, kN); };
    return call;
  });
  check(suite, "c_mul_fp32/itself", [](Random &random) {
    Call call;
    call.updated("A", kF32, {kN}, normal(kF32, kN, random));
    call.invoke = [](DLTensor *const *t) { return c_mul_fp32(at<float>(t[0]), at<float>(t[0]), 0.0f, kN); };
    return call;
  });
}

// Host memory that an output shares is refused, also where it would be copied to a device; names of the CPU take host memory.
void check_refusals(Suite &suite) {
  suite.check_on_each("bitsandbytes/overlap", [](const Target &target, Random &random) -> std::string {
    if (target.isa) bnb_set_isa(target.isa);
    const Tensor map{"code", kF32, {256}, false, code(random)}, scale{"absmax", kF32, {1}, true, {}};
    Buffer code_buffer(map, target.device, kPlain), absmax(scale, target.device, kPlain);
    float shared[64];
    for (float &x : shared) x = 0.25f;
    const bnb_status status =
        cquantize_blockwise_fp32(at<float>(code_buffer.descriptor()), shared, at<float>(absmax.descriptor()),
                                 reinterpret_cast<uint8_t *>(shared), kBlocksize, 64);
    if (status != BNB_ERROR_INVALID_ARGUMENT) return "an output that overlaps an input was accepted";
    for (const float x : shared) {
      if (x != 0.25f) return "something was written";
    }
    return std::strncmp(bnb_last_error(), "cquantize_blockwise_fp32: ", 26) == 0 ? "" : bnb_last_error();
  });
  suite.check_on_each("bitsandbytes/managed", [](const Target &, Random &) -> std::string {
    auto *const bytes = static_cast<uint8_t *>(cget_managed_ptr(100));
    if (!bytes) return bnb_last_error();
    bytes[99] = 7;
    if (cprefetch(bytes, 100, 0) != BNB_OK || cprefetch(bytes, 100, -1) != BNB_OK) return bnb_last_error();
    const bnb_status filled = cfill_uint8(bytes, nullptr, 5, 99);
    if (filled == BNB_ERROR_UNSUPPORTED) return std::string("UNSUPPORTED: ") + bnb_last_error();
    if (filled != BNB_OK) return bnb_last_error();
    const char *backend = bnb_backend_name(1);
    const DLDeviceType type = backend && std::strcmp(backend, "hip") == 0 ? kDLROCM
                              : backend && std::strcmp(backend, "metal") == 0 ? kDLMetal
                                                                              : kDLCUDA;
    const DLDevice gpu{type, 0};
    const bool managed = backend && bnb_device_count(backend) > 0;
    if (managed && bnb_synchronize(gpu, nullptr) != BNB_OK) return bnb_last_error();
    const bool right = bytes[0] == 5 && bytes[98] == 5 && bytes[99] == 7;
    if (bnb_free(managed ? gpu : DLDevice{kDLCPU, 0}, bytes) != BNB_OK) return bnb_last_error();
    return right ? "" : "cfill_uint8 in managed memory did not fill it";
  });
}

}  // namespace

CONFORMANCE(bitsandbytes) {
  suite.take_addresses();
  check_quantizers(suite);
  check_int8(suite);
  check_int8_products(suite);
  check_products(suite);
  check_optimizers(suite);
  check_tools(suite);
  check_refusals(suite);
}
