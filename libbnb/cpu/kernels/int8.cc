// SPDX-License-Identifier: MIT
// LLM.int8(): out = rne(x * (127 / absmax)) with one absmax per row or per column, and the ways back. EXACT.
//
// Outliers (|x| >= threshold > 0) are left out of the statistics and become 0, as do whole columns that have one, if asked for.
// Rows begin at any address and have any length: vectors by four, by one, then the first lanes of one.
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streaming.h"

namespace bnb::cpu::BNB_ISA {
namespace {

constexpr int64_t kGroup = 4 * kLanes;

template <typename Tag>
constexpr int64_t kSizeOf = int64_t(sizeof(typename Tag::Storage));

BNB_INLINE float canonical(uint32_t magnitude) {
  return formats::float_from_bits(magnitude > kInfinityBits ? kNanBits : magnitude);
}

// Threads mark the same columns: most marks are there already, and then the line need not be taken from the others.
BNB_INLINE void mark_columns(uint8_t *columns, uint32_t which) {
  for (; which; which &= which - 1) {
    uint8_t *column = columns + __builtin_ctz(which);
    if (__atomic_load_n(column, __ATOMIC_RELAXED) == 0) __atomic_store_n(column, uint8_t(1), __ATOMIC_RELAXED);
  }
}

// Bits of |x|, 0 for outliers; NaN is none.
BNB_INLINE Ints inlier_magnitude(Floats x, Mask outlier) { return select_int(outlier, splat_int(0), bits(abs(x))); }

// Bits of the largest inlier of a row, or of some NaN.
template <typename Tag>
BNB_INLINE uint32_t largest_inlier(const char *a, int64_t cols, Floats threshold, uint8_t *outlier_cols) {
  Ints largest = splat_int(0);
  const auto see = [&](Floats x, int64_t col) {
    const Mask outlier = greater_equal(abs(x), threshold);
    largest = max_uint(largest, inlier_magnitude(x, outlier));
    if (outlier_cols && any(outlier)) mark_columns(outlier_cols + col, mask_bits(outlier));
  };
  int64_t col = 0;
  for (; col + kLanes <= cols; col += kLanes) see(load<Tag>(a + col * kSizeOf<Tag>), col);
  if (col < cols) see(load_some<Tag>(a + col * kSizeOf<Tag>, cols - col), col);  // what is missing is no outlier
  return reduce_max_uint(largest);
}

// From numbers to codes, in a row that is finite and not all zero, nor so tiny that 127 / absmax overflows.
struct OrdinaryRow {
  Floats scale;
  BNB_INLINE Ints operator()(Floats x) const { return round_int(mul(x, scale)); }
};

struct RareRow {
  float absmax;
  BNB_INLINE Ints operator()(Floats x) const {
    if (!(absmax > 0.0f)) return splat_int(0);  // zeros, or a NaN somewhere
    if (formats::bits_from_float(absmax) == kInfinityBits) {
      const Mask infinite = equal(abs(x), splat(absmax));
      return round_int(select(infinite, copy_sign(splat(127.0f), x), splat(0.0f)));
    }
    return round_int(mul(div(x, splat(absmax)), splat(127.0f)));
  }
};

BNB_INLINE bool is_ordinary(float scale) { return scale > 0.0f && scale < formats::float_from_bits(kInfinityBits); }

template <typename Body>
BNB_INLINE void with_encoder(float absmax, const Body &body) {
  const float scale = 127.0f / absmax;
  if (is_ordinary(scale)) {
    body(OrdinaryRow{splat(scale)});
  } else {
    body(RareRow{absmax});
  }
}

// What becomes 0 in a row: nothing, its outliers, or the marked columns, among which are those of all outliers.
struct DropNothing {
  BNB_INLINE DropNothing from(int64_t) const { return {}; }
  BNB_INLINE Ints operator()(Ints code, Floats, int64_t) const { return code; }
  BNB_INLINE Ints some(Ints code, Floats, int64_t, int64_t) const { return code; }
};
struct DropOutliers {
  Floats threshold;
  BNB_INLINE DropOutliers from(int64_t) const { return *this; }
  BNB_INLINE Ints operator()(Ints code, Floats x, int64_t) const {
    return select_int(greater_equal(abs(x), threshold), splat_int(0), code);
  }
  BNB_INLINE Ints some(Ints code, Floats x, int64_t col, int64_t) const { return (*this)(code, x, col); }
};
struct DropColumns {
  const uint8_t *marks;
  BNB_INLINE DropColumns from(int64_t col) const { return {marks + col}; }
  BNB_INLINE Ints kept(Ints code, Ints mark) const { return select_int(equal_int(mark, splat_int(0)), code, splat_int(0)); }
  BNB_INLINE Ints operator()(Ints code, Floats, int64_t col) const { return kept(code, load_uint8(marks + col)); }
  BNB_INLINE Ints some(Ints code, Floats, int64_t col, int64_t count) const {
    return kept(code, load_uint8_some(marks + col, count));
  }
};

// encode(x, i) and then drop(code, x, i) for i in [0, count).
template <typename Tag, typename Encode, typename EncodeSome>
BNB_INLINE void encode_row(const char *a, int64_t count, const Encode &encode, const EncodeSome &encode_some, char *out) {
  const auto codes = [&](int64_t i) { return encode(load<Tag>(a + i * kSizeOf<Tag>), i); };
  int64_t i = 0;
  for (; i + kGroup <= count; i += kGroup) {
    store_bytes(out + i, pack_int8(codes(i), codes(i + kLanes), codes(i + 2 * kLanes), codes(i + 3 * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) store_int8(out + i, codes(i));
  if (i == count) return;
  const Floats x = load_some<Tag>(a + i * kSizeOf<Tag>, count - i);
  store_int8_some(out + i, encode_some(x, i, count - i), count - i);
}

// Calls body(row, col, count, to) for the parts of rows that make up items [begin, end) of a compact matrix of `cols` columns;
// the items of a part go to `to`.
template <int64_t kItemSize, typename Body>
BNB_INLINE void write_rows(void *out, int64_t rows, int64_t cols, int64_t begin_row, int64_t end_row, const Body &body) {
  const int64_t row_bytes = cols * kItemSize;
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *to) {
    const int64_t start = first_byte / kItemSize;
    for_blocks(start, last_byte / kItemSize, cols, [&](int64_t row, int64_t first, int64_t last) {
      body(row, first - row * cols, last - first, to + (first - start) * kItemSize);
    });
  };
  write_output(out, rows * row_bytes, begin_row * row_bytes, end_row * row_bytes, produce);
}

template <typename Tag, typename Drop>
void quantize_rows(const QuantizeInt8Args &args, const Drop &drop_in_matrix, int64_t begin, int64_t end) {
  write_rows<1>(args.out, args.rows, args.cols, begin, end, [&](int64_t row, int64_t col, int64_t count, char *to) {
    const char *a = static_cast<const char *>(args.a) + (row * args.row_stride + col) * kSizeOf<Tag>;
    const Drop drop = drop_in_matrix.from(col);
    with_encoder(bnb::load<float>(args.row_stats, row), [&](const auto &encode) {
      encode_row<Tag>(
          a, count, [&](Floats x, int64_t i) { return drop(encode(x), x, i); },
          [&](Floats x, int64_t i, int64_t some) { return drop.some(encode(x), x, i, some); }, to);
    });
  });
}

// Columns are worked on in strips whose statistics, or scales, stay in the first-level cache.
constexpr int64_t kStrip = 1024;

template <typename Tag, typename Magnitude>
BNB_INLINE void col_stats_of_strip(const QuantizeInt8Args &args, int64_t begin, int64_t count, const Magnitude &magnitude) {
  alignas(64) uint32_t largest[kStrip + kLanes] = {};
  const char *a = static_cast<const char *>(args.a) + begin * kSizeOf<Tag>;
  const int64_t row_bytes = args.row_stride * kSizeOf<Tag>;
  const auto at = [&](const char *p, int64_t col) { return magnitude(load<Tag>(p + col * kSizeOf<Tag>)); };
  const auto some_at = [&](const char *p, int64_t col) {
    return magnitude(load_some<Tag>(p + col * kSizeOf<Tag>, count - col));
  };
  const auto see = [&](int64_t col, Ints v) { store_int32(largest + col, max_uint(load_int32(largest + col), v)); };
  int64_t row = 0;
  for (; row + 4 <= args.rows; row += 4, a += 4 * row_bytes) {
    const char *b = a + row_bytes, *c = b + row_bytes, *d = c + row_bytes;
    int64_t col = 0;
    for (; col + kLanes <= count; col += kLanes) {
      see(col, max_uint(max_uint(at(a, col), at(b, col)), max_uint(at(c, col), at(d, col))));
    }
    if (col < count) {
      see(col, max_uint(max_uint(some_at(a, col), some_at(b, col)), max_uint(some_at(c, col), some_at(d, col))));
    }
  }
  for (; row < args.rows; ++row, a += row_bytes) {
    int64_t col = 0;
    for (; col + kLanes <= count; col += kLanes) see(col, at(a, col));
    if (col < count) see(col, some_at(a, col));
  }
  for (int64_t col = 0; col < count; ++col) bnb::store<float>(args.col_stats, begin + col, canonical(largest[col]));
}

// One column of rows [begin, end) whose absmax is not ordinary, element by element.
template <typename Tag>
void quantize_rare_column(const QuantizeInt8Args &args, int64_t col, int64_t begin, int64_t end) {
  const RareRow encode{bnb::load<float>(args.col_stats, col)};
  const Floats threshold = splat(args.threshold);
  for (int64_t row = begin; row < end; ++row) {
    const char *a = static_cast<const char *>(args.a) + (row * args.row_stride + col) * kSizeOf<Tag>;
    const Floats x = load_some<Tag>(a, 1);
    const Ints code = args.threshold > 0.0f ? DropOutliers{threshold}(encode(x), x, 0) : encode(x);
    store_int8_some(args.out_col + row * args.cols + col, code, 1);
  }
}

template <typename Tag, typename Drop>
void quantize_strip(const QuantizeInt8Args &args, const Drop &drop, int64_t strip, int64_t count, int64_t begin, int64_t end) {
  alignas(64) float scales[kStrip];
  bool rare = false;
  for (int64_t i = 0; i < count; ++i) {
    const float absmax = bnb::load<float>(args.col_stats, strip + i);
    scales[i] = 127.0f / absmax;
    if (is_ordinary(scales[i])) continue;
    scales[i] = 0.0f;
    rare = rare || absmax != 0.0f;  // whose elements are zeros
  }
  for (int64_t row = begin; row < end; ++row) {
    const char *a = static_cast<const char *>(args.a) + (row * args.row_stride + strip) * kSizeOf<Tag>;
    const auto encode = [&](Floats x, Floats scale) { return drop(round_int(mul(x, scale)), x, 0); };
    encode_row<Tag>(
        a, count, [&](Floats x, int64_t i) { return encode(x, load<F32>(scales + i)); },
        [&](Floats x, int64_t i, int64_t some) { return encode(x, load_some<F32>(scales + i, some)); },
        reinterpret_cast<char *>(args.out_col) + row * args.cols + strip);
  }
  if (!rare) return;
  for (int64_t i = 0; i < count; ++i) {
    const float absmax = bnb::load<float>(args.col_stats, strip + i);
    if (absmax != 0.0f && !is_ordinary(127.0f / absmax)) quantize_rare_column<Tag>(args, strip + i, begin, end);
  }
}

struct NoBias {
  BNB_INLINE Floats operator()(Floats x, int64_t) const { return x; }
  BNB_INLINE Floats some(Floats x, int64_t, int64_t) const { return x; }
};
template <typename Tag>
struct Bias {
  const char *bias;
  BNB_INLINE Floats operator()(Floats x, int64_t col) const { return add(x, load<Tag>(bias + col * kSizeOf<Tag>)); }
  BNB_INLINE Floats some(Floats x, int64_t col, int64_t count) const {
    return add(x, load_some<Tag>(bias + col * kSizeOf<Tag>, count));
  }
};

template <typename Tag, typename AddBias>
void dequantize_mm(const DequantizeInt8MmArgs &args, const AddBias &add_bias, int64_t begin, int64_t end) {
  const Floats unit = splat(1.0f / (127.0f * 127.0f));
  const char *stats = static_cast<const char *>(args.col_stats);
  write_rows<kSizeOf<Tag>>(args.out, args.rows, args.cols, begin, end, [&](int64_t row, int64_t col, int64_t count, char *to) {
    const char *a = static_cast<const char *>(args.a) + (row * args.cols + col) * 4;
    const Floats row_stats = splat(bnb::load<float>(args.row_stats, row));
    const auto value = [&](Ints sum, Floats col_stats) { return mul(mul(to_float(sum), mul(row_stats, col_stats)), unit); };
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      const Floats x = value(load_int32(a + i * 4), load<F32>(stats + (col + i) * 4));
      store<Tag>(to + i * kSizeOf<Tag>, add_bias(x, col + i));
    }
    if (i == count) return;
    const int64_t some = count - i;
    const Floats x = value(load_int32_some(a + i * 4, some), load_some<F32>(stats + (col + i) * 4, some));
    store_some<Tag>(to + i * kSizeOf<Tag>, add_bias.some(x, col + i, some), some);
  });
}

}  // namespace

void int8_row_stats(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  const int64_t row_bytes = args.row_stride * (args.dtype == DType::kF32 ? 4 : 2);
  for (int64_t row = begin; row < end; ++row) {
    const char *a = static_cast<const char *>(args.a) + row * row_bytes;
    void *stats = static_cast<char *>(args.row_stats) + row * 4;
    if (!(args.threshold > 0.0f)) {
      absmax({args.dtype, a, args.cols, args.cols, 0.0f, 1.0f, stats}, 0, 1);
      continue;
    }
    with_float(args.dtype, [&](auto tag) {
      const uint32_t bits = largest_inlier<decltype(tag)>(a, args.cols, splat(args.threshold), args.outlier_cols);
      bnb::store<float>(stats, 0, canonical(bits));
    });
  }
}

void int8_col_stats(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  const Floats threshold = splat(args.threshold);
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t strip = begin; strip < end; strip += kStrip) {
      const int64_t count = end - strip < kStrip ? end - strip : kStrip;
      if (args.threshold > 0.0f) {
        col_stats_of_strip<Tag>(args, strip, count,
                                [&](Floats x) { return inlier_magnitude(x, greater_equal(abs(x), threshold)); });
      } else {
        col_stats_of_strip<Tag>(args, strip, count, [](Floats x) { return bits(abs(x)); });
      }
    }
  });
}

void int8_quantize_rows(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    if (args.outlier_cols) return quantize_rows<Tag>(args, DropColumns{args.outlier_cols}, begin, end);
    if (args.threshold > 0.0f) return quantize_rows<Tag>(args, DropOutliers{splat(args.threshold)}, begin, end);
    quantize_rows<Tag>(args, DropNothing{}, begin, end);
  });
}

void int8_quantize_cols(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    for (int64_t strip = 0; strip < args.cols; strip += kStrip) {
      const int64_t count = args.cols - strip < kStrip ? args.cols - strip : kStrip;
      if (args.threshold > 0.0f) {
        quantize_strip<Tag>(args, DropOutliers{splat(args.threshold)}, strip, count, begin, end);
      } else {
        quantize_strip<Tag>(args, DropNothing{}, strip, count, begin, end);
      }
    }
  });
}

void dequantize_int8(const DequantizeInt8Args &args, int64_t begin, int64_t end) {
  const Floats unit = splat(1.0f / 127.0f);
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    constexpr int64_t kSize = kSizeOf<Tag>;
    write_rows<kSize>(args.out, args.rows, args.cols, begin, end, [&](int64_t row, int64_t col, int64_t count, char *to) {
      const int8_t *a = args.a + row * args.row_stride + col;
      const Floats stats = splat(bnb::load<float>(args.row_stats, row));
      const auto value = [&](Ints code) { return mul(mul(to_float(code), stats), unit); };
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) store<Tag>(to + i * kSize, value(load_int8(a + i)));
      if (i < count) store_some<Tag>(to + i * kSize, value(load_int8_some(a + i, count - i)), count - i);
    });
  });
}

void dequantize_int8_mm(const DequantizeInt8MmArgs &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    if (!args.bias) return dequantize_mm<Tag>(args, NoBias{}, begin, end);
    with_float(args.bias_dtype, [&](auto bias_tag) {
      dequantize_mm<Tag>(args, Bias<decltype(bias_tag)>{static_cast<const char *>(args.bias)}, begin, end);
    });
  });
}

}  // namespace bnb::cpu::BNB_ISA
