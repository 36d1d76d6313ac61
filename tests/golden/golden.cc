// SPDX-License-Identifier: MIT
// Results whose bits are pinned: digests of what bitsandbytes 0.50.2, for blocks of GGUF the gguf package 0.19, and for MX and NVFP4
// torchao 0.18.0 store for fixed inputs, on every instruction set.
//
// Where our definition differs from that library's, the test makes that library's codes itself (the digest proves that
// it does so rightly), shows that ours dequantizes them to the same values, and that ours are the exact ones. These
// rows differ by design:
//   FP4 codes       its CPU code gives small positive numbers the code of -0 and breaks ties of negative numbers away
//   from zero;
//                   ours are those of its GPU rule, whose digests are here, too.
//   8-bit codes     its CPU code looks x' up in a table of 65536 steps: an exact zero gets code 131. Ours are the
//   nearest codes. nested codes    the same table.
#include <bnb/bnb.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "conformance/call.h"
#include "formats/dynamic_map.h"
#include "formats/fp4.h"
#include "sha256.h"
#include "unit/check.h"

using conformance::Bytes;
using conformance::bytes_of;

namespace {

template <typename T>
struct Array {  // a tensor over a vector
  std::vector<T> values;
  std::vector<int64_t> shape;
  DLTensor tensor{};

  Array(DLDataType dtype, std::vector<int64_t> extents, std::vector<T> content = {})
      : values(std::move(content)), shape(std::move(extents)) {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    values.resize(size_t(n));
    tensor = {values.data(), {kDLCPU, 0}, int32_t(shape.size()), dtype, shape.data(), nullptr, 0};
  }
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;
};
using Floats = Array<float>;
using Codes = Array<uint8_t>;

void check_digest(const char *what, const Bytes &bytes, const char *sha, const char *head) {
  const std::string digest = golden::sha256(bytes).substr(0, std::strlen(sha));
  std::string first;
  for (size_t i = 0; i < bytes.size() && i < std::strlen(head) / 2; ++i) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", bytes[i]);
    first += hex;
  }
  CHECK_THAT(digest == sha, "%s: digest %s, must be %s", what, digest.c_str(), sha);
  CHECK_THAT(first == head, "%s: begins with %s, must be %s", what, first.c_str(), head);
}
template <typename T>
void check_digest(const char *what, const std::vector<T> &values, const char *sha, const char *head) {
  check_digest(what, bytes_of(values), sha, head);
}

// The inputs: exact in fp32.
std::vector<float> input_x(int n) {
  std::vector<float> x;
  for (int64_t i = 0; i < n; ++i) x.push_back(float((i * 7919 + 13) % 20011 - 10005) / 4096.0f);
  return x;
}
std::vector<float> input_z(int n) {
  std::vector<float> z = input_x(n);
  for (int i = 0; i < n; ++i) z[size_t(i)] = i % 5 == 0 ? 0.0f : std::ldexp(z[size_t(i)], -(i % 13));
  return z;
}
std::vector<float> input_y(int n) {
  std::vector<float> y = input_x(n);
  for (int i = 0; i < n; ++i) y[size_t(i)] *= float(1 + (i / 64) % 7);
  return y;
}

std::vector<float> dynamic_map(int32_t is_signed) {
  std::vector<float> code(256);
  CHECK(bnb_create_dynamic_map(is_signed, code.data()) == BNB_OK);
  return code;
}

constexpr int64_t kN = 1000, kBlock = 64, kBlocks = 16;

// The wheel's CPU rules, block by block.

float normalised(const std::vector<float> &x, size_t i, const std::vector<float> &absmax, bool short_block_divides) {
  const float scale = std::max(absmax[i / kBlock], 1e-38f);
  const bool in_short = short_block_divides && int64_t(i) >= int64_t(x.size()) / kBlock * kBlock;
  return std::clamp(in_short ? x[i] / scale : x[i] * (1.0f / scale), -1.0f, 1.0f);
}

// One sorted list of sixteen values, code 0 before code 8; the value below the midpoint wins a tie.
std::vector<uint8_t> wheel_fp4(const std::vector<float> &x, const std::vector<float> &absmax) {
  constexpr uint8_t kSorted[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};
  std::vector<uint8_t> packed(x.size() / 2);
  for (size_t i = 0; i < x.size(); ++i) {
    const float value = normalised(x, i, absmax, true);
    size_t rank = 0;
    for (size_t k = 0; k < 15; ++k) {
      rank += value > (bnb::formats::fp4::decode(kSorted[k]) + bnb::formats::fp4::decode(kSorted[k + 1])) * 0.5f;
    }
    packed[i / 2] = uint8_t(packed[i / 2] | kSorted[rank] << (i % 2 ? 0 : 4));
  }
  return packed;
}

// A table over 65536 steps from -1 to 1.
std::vector<uint8_t> wheel_8bit(const std::vector<float> &x, const std::vector<float> &absmax,
                                const std::vector<float> &code, size_t blocksize) {
  std::vector<uint8_t> codes;
  for (size_t i = 0; i < x.size(); ++i) {
    const float unit =
        absmax[i / blocksize] > 0.0f ? std::clamp(x[i] * (1.0f / absmax[i / blocksize]), -1.0f, 1.0f) : 0.0f;
    const float step = float(int((unit + 1.0f) * 0.5f * 65535.0f + 0.5f));
    const float value = -1.0f + 2.0f * step / 65535.0f;
    int count = 0;
    for (size_t k = 0; k < 255; ++k) count += 0.5f * (code[k] + code[k + 1]) < value;
    codes.push_back(absmax[i / blocksize] > 0.0f ? uint8_t(count) : uint8_t(0));
  }
  return codes;
}

struct FourBit {
  const char *name;
  bnb_quant_type quant_type;
  std::vector<float> input;
  const char *packed_sha, *packed_head, *absmax_sha, *absmax_head, *dequant_sha, *dequant_head;
};

std::vector<float> dequantized_4bit(const FourBit &row, const std::vector<uint8_t> &packed,
                                    const std::vector<float> &absmax) {
  Codes a(conformance::kU8, {kN / 2}, packed);
  Floats scales(conformance::kF32, {kBlocks}, absmax), out(conformance::kF32, {kN});
  CHECK(cdequantize_4bit(&a.tensor, &scales.tensor, nullptr, row.quant_type, kBlock, &out.tensor, nullptr) == BNB_OK);
  return out.values;
}

void check_4bit(const FourBit &row, const char *wheel_sha, const char *wheel_head) {
  Floats x(conformance::kF32, {kN}, row.input), absmax(conformance::kF32, {kBlocks});
  Codes packed(conformance::kU8, {kN / 2});
  CHECK(cquantize_4bit(&x.tensor, row.quant_type, kBlock, &packed.tensor, &absmax.tensor, nullptr) == BNB_OK);
  check_digest("packed", packed.values, row.packed_sha, row.packed_head);
  check_digest("absmax", absmax.values, row.absmax_sha, row.absmax_head);
  std::vector<uint8_t> wheel = packed.values;
  if (wheel_sha) {
    wheel = wheel_fp4(row.input, absmax.values);
    check_digest("packed by the wheel's rule", wheel, wheel_sha, wheel_head);
  }
  check_digest("dequant of the wheel's codes", dequantized_4bit(row, wheel, absmax.values), row.dequant_sha,
               row.dequant_head);
  const std::vector<float> ours = dequantized_4bit(row, packed.values, absmax.values);
  const std::vector<float> theirs = dequantized_4bit(row, wheel, absmax.values);
  for (size_t i = 0; i < ours.size(); ++i) {  // -0 is equal to 0
    CHECK_THAT(ours[i] == theirs[i], "element %zu is %g, the wheel's is %g", i, double(ours[i]), double(theirs[i]));
  }
}

void check_8bit(const std::vector<float> &input, const char *absmax_sha, const char *absmax_head, const char *exact_sha,
                const char *exact_head, const char *wheel_sha, const char *wheel_head, const char *dequant_sha,
                const char *dequant_head) {
  Floats x(conformance::kF32, {kN}, input), absmax(conformance::kF32, {kBlocks}), out(conformance::kF32, {kN});
  Floats code(conformance::kF32, {256}, dynamic_map(1));
  Codes codes(conformance::kU8, {kN});
  CHECK(cquantize_blockwise(&x.tensor, &code.tensor, kBlock, &codes.tensor, &absmax.tensor, nullptr) == BNB_OK);
  check_digest("absmax", absmax.values, absmax_sha, absmax_head);
  check_digest("codes", codes.values, exact_sha, exact_head);
  codes.values = wheel_8bit(input, absmax.values, code.values, kBlock);
  check_digest("codes by the wheel's table", codes.values, wheel_sha, wheel_head);
  codes.tensor.data = codes.values.data();
  CHECK(cdequantize_blockwise(&codes.tensor, &absmax.tensor, &code.tensor, kBlock, &out.tensor, nullptr) == BNB_OK);
  check_digest("dequant of the wheel's codes", out.values, dequant_sha, dequant_head);
}

void check_nested() {
  constexpr int64_t kElements = 19200, kScales = 300, kNestedBlock = 256, kNestedBlocks = 2;
  Floats y(conformance::kF32, {kElements}, input_y(kElements)), absmax(conformance::kF32, {kScales});
  check_digest("input y", y.values, "232dea9e5e8220ea", "00201cc0009001bf");
  Codes packed(conformance::kU8, {kElements / 2}), codes(conformance::kU8, {kScales});
  CHECK(cquantize_4bit(&y.tensor, BNB_NF4, kBlock, &packed.tensor, &absmax.tensor, nullptr) == BNB_OK);
  check_digest("packed", packed.values, "d3f2982910eb4865", "05d19f4d19f4c18f");

  Floats code(conformance::kF32, {256}, dynamic_map(1)), nested_absmax(conformance::kF32, {kNestedBlocks});
  Floats offset(conformance::kF32, {});
  CHECK(cquantize_nested(&absmax.tensor, &code.tensor, kNestedBlock, &codes.tensor, &nested_absmax.tensor,
                         &offset.tensor, nullptr) == BNB_OK);
  CHECK(offset.values[0] == 9.657470703125f);
  check_digest("nested absmax", nested_absmax.values, "384df1ed3cec9ba5", "00e4ed4000b0ec40");

  std::vector<float> centred = absmax.values;
  for (float &value : centred) value -= offset.values[0];
  const std::vector<uint8_t> wheel = wheel_8bit(centred, nested_absmax.values, code.values, kNestedBlock);
  check_digest("codes by the wheel's table", wheel, "cc69de20ae1be4ea", "0218309dcee6ff01");
  for (size_t i = 0; i < wheel.size(); ++i) {  // ours is never further from the scale than the wheel's
    const float unit = centred[i] * (1.0f / nested_absmax.values[i / kNestedBlock]);
    const float ours = std::fabs(code.values[codes.values[i]] - unit), theirs = std::fabs(code.values[wheel[i]] - unit);
    CHECK_THAT(ours <= theirs, "scale %zu: code %d is further away than %d", i, codes.values[i], wheel[i]);
  }
}

void check_int8(float threshold, const char *sha, const char *head, const char *stats_sha,
                const std::vector<int> &first_outliers, int outliers) {
  Floats x(conformance::kF32, {10, 100}, input_x(kN)), stats(conformance::kF32, {10});
  Array<int8_t> q(conformance::kI8, {10, 100});
  Codes columns(conformance::kU8, {100});
  CHECK(cquantize_int8_vectorwise(&x.tensor, threshold, &q.tensor, &stats.tensor, &columns.tensor, nullptr) == BNB_OK);
  check_digest("q", q.values, sha, head);
  check_digest("row_stats", stats.values, stats_sha, "");
  std::vector<int> found;
  for (int c = 0; c < 100; ++c) {
    if (columns.values[size_t(c)]) found.push_back(c);
  }
  CHECK_THAT(int(found.size()) == outliers, "%zu outlier columns", found.size());
  CHECK(std::equal(first_outliers.begin(), first_outliers.end(), found.begin()));
}

// Blocks of GGUF, as its own quantizers make them: one scale for 256 weights, the largest magnitude.
void check_tq(const char *name, bnb_quant_type quant_type, int64_t block_bytes, const char *sha, const char *head) {
  constexpr int64_t kWeights = 2560, kTqBlock = 256;
  Floats x(conformance::kF32, {kWeights}, input_x(kWeights));
  Codes blocks(conformance::kU8, {kWeights / kTqBlock * block_bytes});
  CHECK(cquantize_ternary(&x.tensor, quant_type, BNB_ABSMAX, kTqBlock, &blocks.tensor, nullptr, nullptr) == BNB_OK);
  check_digest(name, blocks.values, sha, head);
}

struct Microscaled {
  const char *name;
  bnb_quant_type quant_type;
  bnb_mx_scale rule;
  bool z;  // which input
  const char *codes_sha, *codes_head, *scale_sha, *scale_head, *tensor_scale;
};

// 2560 elements as [10, 256].
constexpr Microscaled kMicroscaled[] = {
    {"mxfp4 x floor", BNB_MXFP4, BNB_MX_FLOOR, false,
     "b5ffdc938331af6c", "aed5625a1db6d461", "faa7484b9a2ef199", "7e7e7e7e7e7e7e7e", ""},
    {"mxfp8_e4m3fn x floor", BNB_MXFP8_E4M3FN, BNB_MX_FLOOR, false,
     "ca006b340fc3bbce", "fae873f46579ea73", "d929cdeea7e6a0f4", "7878787878787878", ""},
    {"mxfp8_e5m2 x floor", BNB_MXFP8_E5M2, BNB_MX_FLOOR, false,
     "dd96cdf560dde9b6", "f9f076f66f79f175", "c20f9561833cd9ed", "7171717171717171", ""},
    {"nvfp4 x", BNB_NVFP4, BNB_MX_FLOOR, false,
     "66a424aa4a3c3e84", "afe6725b1ec7e571", "19a5333b4f8d7de1", "7e7c7e7e7c7e7e7c", "92246e3a"},
    {"mxfp4 z floor", BNB_MXFP4, BNB_MX_FLOOR, true,
     "4f82bfe0980ebbd8", "a0a300080880f001", "2fd8e3bea93ad1ce", "7d7d7e7d7d7e7c7d", ""},
    {"mxfp4 z ceil", BNB_MXFP4, BNB_MX_CEIL, true,
     "1d024a3597faf20f", "909100080880d000", "588726328a2d79da", "7e7e7f7e7e7f7d7e", ""},
    {"mxfp4 z even", BNB_MXFP4, BNB_MX_EVEN, true,
     "9ff0e76ec572081d", "a0a300080880f001", "d02b17a458644357", "7d7d7e7d7d7e7d7d", ""},
    {"mxfp4 z rceil", BNB_MXFP4, BNB_MX_RCEIL, true,
     "a5d39744704d59e2", "909100080880d000", "54a3b86d2e9862c6", "7e7d7e7e7d7e7d7d", ""},
    {"mxfp8_e4m3fn z floor", BNB_MXFP8_E4M3FN, BNB_MX_FLOOR, true,
     "41078b786581f340", "00e86be44d00c243", "18c2ffaa3c94ef17", "7777787777787677", ""},
    {"mxfp8_e4m3fn z ceil", BNB_MXFP8_E4M3FN, BNB_MX_CEIL, true,
     "8f23a043793282f2", "00e063dc4500ba3b", "ac7593f522c9777f", "7878797878797778", ""},
    {"mxfp8_e4m3fn z even", BNB_MXFP8_E4M3FN, BNB_MX_EVEN, true,
     "8e0922205bbc230d", "00e86be44d00c243", "8ea0c7a5eba57611", "7777787777787677", ""},
    {"mxfp8_e4m3fn z rceil", BNB_MXFP8_E4M3FN, BNB_MX_RCEIL, true,
     "435dd931c462b98f", "00e86be44d00c243", "e8a7ff90740ca331", "7777787777787777", ""},
    {"mxfp8_e5m2 z floor", BNB_MXFP8_E5M2, BNB_MX_FLOOR, true,
     "1922570936e35b14", "00f072ee6300dd5d", "a34675107db0589c", "7070717070716f70", ""},
    {"mxfp8_e5m2 z ceil", BNB_MXFP8_E5M2, BNB_MX_CEIL, true,
     "c7c15eebc1ae774e", "00ec6eea5f00d959", "46863a8af6cd8f25", "7171727171727071", ""},
    {"mxfp8_e5m2 z even", BNB_MXFP8_E5M2, BNB_MX_EVEN, true,
     "94880c2752f72492", "00f072ee6300dd5d", "9e0726c1140a5c17", "7070717070716f70", ""},
    {"mxfp8_e5m2 z rceil", BNB_MXFP8_E5M2, BNB_MX_RCEIL, true,
     "49b502a9a934863a", "00f072ee6300dd5d", "690a101867f43085", "7070717070717070", ""},
    {"nvfp4 z", BNB_NVFP4, BNB_MX_FLOOR, true,
     "98a89032965f6191", "a09200080880f001", "8e89ddb42d6ff310", "7a7467757a7e7a73", "b7ed6c3a"},
};

void check_mx(const Microscaled &row) {
  constexpr int64_t kElements = 2560;
  const int64_t blocksize = row.quant_type == BNB_NVFP4 ? 16 : 32;
  const bool four_bits = row.quant_type == BNB_NVFP4 || row.quant_type == BNB_MXFP4;
  Floats x(conformance::kF32, {10, kElements / 10}, row.z ? input_z(kElements) : input_x(kElements));
  Floats tensor_scale(conformance::kF32, {1});
  Codes codes(conformance::kU8, {kElements / (four_bits ? 2 : 1)}), scale(conformance::kU8, {kElements / blocksize});
  DLTensor *const of_tensor = row.quant_type == BNB_NVFP4 ? &tensor_scale.tensor : nullptr;
  CHECK(cquantize_mx(&x.tensor, row.quant_type, row.rule, &codes.tensor, &scale.tensor, of_tensor, nullptr) == BNB_OK);
  check_digest(row.name, codes.values, row.codes_sha, row.codes_head);
  check_digest(row.name, scale.values, row.scale_sha, row.scale_head);
  if (of_tensor) check_digest(row.name, tensor_scale.values, "", row.tensor_scale);
}

void check_all() {
  check_digest("abc", std::vector<uint8_t>{'a', 'b', 'c'},
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "616263");
  check_digest("signed map", dynamic_map(1), "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
               "33337ebf");
  check_digest("unsigned map", dynamic_map(0), "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
               "00000000");
  const std::vector<float> x = input_x(kN), z = input_z(kN);
  check_digest("input x", x, "67aac9ab0cc54356", "00201cc0009001bf");
  check_digest("input z", z, "f59419d243d0faab", "00000000009081be");

  const char *absmax_x = "b5a1f706e08aa1c6", *absmax_x_head = "00201c4000841940";
  const char *absmax_z = "a88d0b50f6300e44", *absmax_z_head = "00e0dd3f007c1840";
  check_4bit({"nf4 x", BNB_NF4, x, "a6c7c37a4bd99fb3", "05d19f4d19f4c18f", absmax_x, absmax_x_head, "8cfb513ffde37b38",
              "00201cc032c8e6be"},
             nullptr, nullptr);
  check_4bit({"nf4 z", BNB_NF4, z, "8cd8f327edb386f9", "75a6777777777087", absmax_z, absmax_z_head, "da2d3eb971febb82",
              "0000000086fca3be"},
             nullptr, nullptr);
  check_4bit({"fp4 x", BNB_FP4, x, "3e615032003a9fae", "be2a63f5a63c5a13", absmax_x, absmax_x_head, "1423e5887e3c1c28",
              "00201cc0ab2ad0be"},
             "8e6e6face181ee06", "be2a63f5a63c5a13");
  check_4bit({"fp4 z", BNB_FP4, z, "6b773aefd77de7e6", "0e6e109190080b10", absmax_z, absmax_z_head, "8b2cd997eb131793",
              "00000000abea93be"},
             "1af8094912df2dae", "0e6e109198008b10");
  check_8bit(x, absmax_x, absmax_x_head, "e84a5b900e4de156", "0038e11ac3fc35de", "e84a5b900e4de156", "0038e11ac3fc35de",
             "471a7eef0ac50318", "f9061bc0b35000bf");
  check_8bit(z, absmax_z, absmax_z_head, "dde59ca0ad078ff1", "7f3cc63fa07f6797", "8e444c64ad0990da", "833cc63fa0836797",
             "15ef6e25b51670f7", "f97e1a38806e84be");
  check_nested();
  check_int8(0.0f, "7e7ba788cb1151ce", "81e64ab1157ae045", "008eb61367f2bf8f", {}, 0);
  check_int8(2.3f, "a54e2d4c42077ed0", "000050ab0000de4a", "2e36707f68456002", {0, 1, 4, 5}, 44);
  check_tq("tq1_0", BNB_TQ1_0, 54, "b3395a3b77f752b7", "2e62cf456cd862cf");
  check_tq("tq2_0", BNB_TQ2_0, 66, "d283b95807ffed97", "9451861861965186");
  for (const Microscaled &row : kMicroscaled) check_mx(row);
}

}  // namespace

int main() {
  for (int32_t i = 0; const char *isa = bnb_isa_name(i); ++i) {
    if (bnb_set_isa(isa) == BNB_OK) {
      unit::run(isa, check_all);
    } else {
      unit::skip(isa, "this CPU does not run it");
    }
  }
  return unit::summary();
}
