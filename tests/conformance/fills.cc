// SPDX-License-Identifier: MIT
// The inputs of fills.h.
#include "fills.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "values.h"

namespace conformance {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Block {
  float *x;
  int64_t count;
  const Corners &corners;
  const Thresholds &thresholds;
  Random &random;
};

template <typename Draw>
void each(const Block &block, Draw &&draw) {
  for (int64_t i = 0; i < block.count; ++i) block.x[i] = draw();
}

// Powers of two that leave room for `top` above and for thresholds below, in every dtype.
float power(Random &random) { return std::ldexp(1.0f, int(random.between(-3, 5))); }

void ties(const Block &block) {
  Random &random = block.random;
  const std::vector<float> &at = block.thresholds.at;
  // Mostly a scale whose reciprocal is exact; else x * (1 / absmax) rounds twice around the threshold.
  const float scale = random.one_in(4) ? 1.0f + float(random.unit()) : power(random);
  const float largest = block.thresholds.top * scale;
  const float ulp = std::ldexp(1.0f, -block.corners.mantissa_bits);
  each(block, [&] {
    const float t = at.empty() ? random.uniform() : at[size_t(random.below(int64_t(at.size())))];
    const float x = t * scale * (1.0f + float(random.between(-1, 1)) * ulp);
    return std::fabs(x) <= largest ? x : random.uniform() * scale;
  });
  block.x[random.below(block.count)] = random.sign() * largest;
}

void extremes(const Block &block) {
  const float values[] = {block.corners.largest, block.corners.smallest_normal, block.corners.smallest, 0.0f, 1.0f};
  each(block, [&] { return block.random.sign() * values[block.random.below(5)]; });
}

// Magnitudes up to `largest`, uniform or over all octaves.
void up_to(const Block &block, float largest) {
  Random &random = block.random;
  const bool octaves = random.one_in(2);
  each(block, [&] {
    const float x = random.uniform() * largest;
    return octaves ? std::ldexp(x, -int(random.below(24))) : x;
  });
  block.x[random.below(block.count)] = random.sign() * largest;
}

void specials(const Block &block, bool nans) {
  Random &random = block.random;
  const int64_t rarity = random.one_in(2) ? 3 : 50;
  each(block, [&] {
    if (!random.one_in(rarity)) return random.normal();
    return nans && random.one_in(2) ? random.sign() * kNaN : random.sign() * kInfinity;
  });
}

void any_bits(const Block &block) {
  each(block, [&] {
    const uint32_t bits = uint32_t(block.random.bits());
    if (block.corners.mantissa_bits == 10) return bnb::formats::float_from_fp16(uint16_t(bits));
    if (block.corners.mantissa_bits == 7) return bnb::formats::float_from_bf16(uint16_t(bits));
    return bnb::formats::float_from_bits(bits);
  });
}

void fill_block(Fill fill, const Block &block) {
  Random &random = block.random;
  const Corners &corners = block.corners;
  switch (fill) {
    case Fill::kNormal: return each(block, [&] { return random.normal(); });
    case Fill::kUniform: return each(block, [&] { return random.uniform(); });
    case Fill::kWide: return each(block, [&] { return random.sign() * std::exp(4.0f * random.normal()); });
    case Fill::kZeros: return each(block, [&] { return random.sign() * 0.0f; });
    case Fill::kConstant: {
      const float value = random.normal();
      return each(block, [&] { return random.sign() * value; });
    }
    case Fill::kOneHot:
      each(block, [] { return 0.0f; });
      block.x[random.below(block.count)] = random.normal();
      return;
    case Fill::kTies: return ties(block);
    case Fill::kExtremes: return extremes(block);
    case Fill::kSubnormals: return up_to(block, corners.smallest_normal - corners.smallest);
    case Fill::kTiny: return up_to(block, std::max(corners.smallest * 5.0f, float(random.unit()) * 0x1p-128f));
    case Fill::kHuge: return up_to(block, corners.largest * (1.0f - 0.5f * float(random.unit())));
    case Fill::kSpecials: return specials(block, true);
    case Fill::kInfinities: return specials(block, false);
    case Fill::kAllNan: return each(block, [&] { return random.sign() * kNaN; });
    case Fill::kBits: return any_bits(block);
    case Fill::kMixed: return fill_block(kAllFills[random.below(int64_t(std::size(kAllFills)) - 1)], block);
  }
}

}  // namespace

const char *name_of(Fill fill) {
  switch (fill) {
    case Fill::kNormal: return "normal";
    case Fill::kUniform: return "uniform";
    case Fill::kWide: return "wide";
    case Fill::kZeros: return "zeros";
    case Fill::kConstant: return "constant";
    case Fill::kOneHot: return "one_hot";
    case Fill::kTies: return "ties";
    case Fill::kExtremes: return "extremes";
    case Fill::kSubnormals: return "subnormals";
    case Fill::kTiny: return "tiny";
    case Fill::kHuge: return "huge";
    case Fill::kSpecials: return "specials";
    case Fill::kInfinities: return "infinities";
    case Fill::kAllNan: return "all_nan";
    case Fill::kBits: return "bits";
    case Fill::kMixed: return "mixed";
  }
  return "?";
}

Bytes filled(Fill fill, DLDataType dtype, int64_t n, int64_t blocksize, const Thresholds &thresholds, Random &random) {
  std::vector<float> values(static_cast<size_t>(n));
  const Corners corners = corners_of(dtype);
  for (int64_t first = 0; first < n; first += std::min(blocksize, n - first)) {
    fill_block(fill, {values.data() + first, std::min(blocksize, n - first), corners, thresholds, random});
  }
  return narrowed(dtype, values);
}

std::vector<float> scales(int64_t n, Random &random) {
  const float corners[] = {0.0f,   -0.0f,   1.0f,     -1.0f,           0x1p-149f, 0x1p-126f, 0x1.fffffep127f,
                           1e-30f, 6.5e-5f, 65504.0f, 0x1.fffffep-15f, kNaN,      kInfinity, -kInfinity};
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) {
    value = random.one_in(4) ? corners[random.below(int64_t(std::size(corners)))]
                             : std::fabs(random.normal()) * std::ldexp(1.0f, int(random.between(-20, 20)));
  }
  return values;
}

Bytes random_bytes(int64_t n, Random &random) {
  Bytes bytes(static_cast<size_t>(n));
  for (uint8_t &byte : bytes) byte = uint8_t(random.bits() >> 32);
  return bytes;
}

std::vector<float> any_floats(int64_t n, Random &random) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = bnb::formats::float_from_bits(uint32_t(random.bits() >> 32));
  return values;
}

Bytes all_bytes(int64_t times) {
  Bytes bytes(static_cast<size_t>(256 * times));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i);
  return bytes;
}

Bytes all_16bit(DLDataType dtype, Random *shuffle) {
  std::vector<uint16_t> items;
  for (int i = 0; i < 65536; ++i) {
    const uint16_t item = uint16_t(i);
    const float value = value_of(dtype, reinterpret_cast<const uint8_t *>(&item));
    if (!shuffle || std::isfinite(value)) items.push_back(item);
  }
  for (int64_t i = int64_t(items.size()) - 1; shuffle && i > 0; --i) {
    std::swap(items[size_t(i)], items[size_t(shuffle->below(i + 1))]);
  }
  return bytes_of(items);
}

Bytes all_16bit_beside(DLDataType dtype, float partner) {
  uint16_t other;
  std::memcpy(&other, narrowed(dtype, {partner}).data(), sizeof other);
  std::vector<uint16_t> items;
  for (int i = 0; i < 65536; ++i) {
    items.push_back(uint16_t(i));
    items.push_back(other);
  }
  return bytes_of(items);
}

}  // namespace conformance
