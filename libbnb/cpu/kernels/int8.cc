// SPDX-License-Identifier: MIT
// LLM.int8(): out = rne(x * (127 / absmax)) with one absmax per row or per column, and the ways back. EXACT.
//
// Outliers (|x| >= threshold > 0) are left out of the statistics and become 0, as do whole columns that have one, if
// asked for. Rows begin at any address and have any length: vectors by four, by one, then the first lanes of one.
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
  const auto see = [&](Floats x) {
    const Mask outlier = greater_equal(abs(x), threshold);
    largest = max_uint(largest, inlier_magnitude(x, outlier));
    return outlier;
  };
  const auto mark = [&](Mask outlier, int64_t col) {
    if (outlier_cols && any(outlier)) mark_columns(outlier_cols + col, mask_bits(outlier));
  };
  const auto at = [&](int64_t col) { return see(load<Tag>(a + col * kSizeOf<Tag>)); };
  int64_t col = 0;
  for (; col + kGroup <= cols; col += kGroup) {
    const Mask m[] = {at(col), at(col + kLanes), at(col + 2 * kLanes), at(col + 3 * kLanes)};
    if (!any(either(either(m[0], m[1]), either(m[2], m[3])))) continue;
    for (int i = 0; i < 4; ++i) mark(m[i], col + i * kLanes);
  }
  for (; col + kLanes <= cols; col += kLanes) mark(at(col), col);
  if (col < cols) mark(see(load_some<Tag>(a + col * kSizeOf<Tag>, cols - col)), col);  // what is missing is no outlier
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

template <typename Body>
BNB_INLINE void with_encoder(float absmax, const Body &body) {
  const float scale = 127.0f / absmax;
  if (is_ordinary(scale)) {
    body(OrdinaryRow{splat(scale)});
  } else {
    body(RareRow{absmax});
  }
}

// The codes of what is no outlier, and 0: two ways to say it, the first where there are none.
struct KeepAll {
  BNB_INLINE Ints operator()(Ints code, Floats) const { return code; }
};
struct DropOutliers {
  Floats threshold;
  BNB_INLINE Ints operator()(Ints code, Floats x) const {
    return select_int(greater_equal(abs(x), threshold), splat_int(0), code);
  }
};

template <typename Body>
BNB_INLINE void with_drop(float threshold, const Body &body) {
  if (threshold > 0.0f) {
    body(DropOutliers{splat(threshold)});
  } else {
    body(KeepAll{});
  }
}

// out[i] = encode(x[i], i), where `encode_some` knows how many lanes count. next: what will be wanted, NULL if nothing.
template <typename Tag, typename Encode, typename EncodeSome>
BNB_INLINE void encode_row(const char *a, const char *next, int64_t count, const Encode &encode,
                           const EncodeSome &encode_some, char *out) {
  const auto codes = [&](int64_t i) { return encode(load<Tag>(a + i * kSizeOf<Tag>), i); };
  int64_t i = 0;
  for (; i + kGroup <= count; i += kGroup) {
    if (next) prefetch(next + i * kSizeOf<Tag>, kGroup * kSizeOf<Tag>);
    store_bytes(out + i, pack_int8(codes(i), codes(i + kLanes), codes(i + 2 * kLanes), codes(i + 3 * kLanes)));
  }
  for (; i + kLanes <= count; i += kLanes) store_int8(out + i, codes(i));
  if (i == count) return;
  const Floats x = load_some<Tag>(a + i * kSizeOf<Tag>, count - i);
  store_int8_some(out + i, encode_some(x, i, count - i), count - i);
}

// Calls body(row, col, count, to) for the parts of rows that make up rows [begin, end) of a compact output: it writes
// `count` items of this row, from `col` on, to `to`.
template <int64_t kItemSize, typename Body>
BNB_INLINE void write_rows(void *out, int64_t rows, int64_t cols, int64_t begin, int64_t end, const Body &body) {
  const int64_t row_bytes = cols * kItemSize;
  const auto produce = [&](int64_t first_byte, int64_t last_byte, char *to) {
    const int64_t start = first_byte / kItemSize;
    for (BlockParts part(start, last_byte / kItemSize, cols); part.more(); part.next()) {
      body(part.block, part.first - part.block * cols, part.count(), to + (part.first - start) * kItemSize);
    }
  };
  write_output(out, rows * row_bytes, begin * row_bytes, end * row_bytes, produce);
}

template <typename Tag, typename Drop>
void quantize_rows(const QuantizeInt8Args &args, const Drop &drop, int64_t begin, int64_t end) {
  const int64_t together = rows_together(args);
  write_rows<1>(args.out, args.rows, args.cols, begin, end, [&](int64_t row, int64_t col, int64_t count, char *to) {
    const char *a = static_cast<const char *>(args.a) + (row * args.row_stride + col) * kSizeOf<Tag>;
    const char *next = row + together < args.rows ? a + together * args.row_stride * kSizeOf<Tag> : nullptr;
    with_encoder(bnb::load<float>(args.row_stats, row), [&](const auto &encode) {
      encode_row<Tag>(
          a, next, count, [&](Floats x, int64_t) { return drop(encode(x), x); },
          [&](Floats x, int64_t, int64_t) { return drop(encode(x), x); }, to);
    });
  });
}

// Columns are worked on in strips whose statistics, or scales, stay in the cache.
constexpr int64_t kStrip = 4096;

template <typename Tag, typename Magnitude>
BNB_INLINE void col_stats_of_strip(const QuantizeInt8Args &args, int64_t begin, int64_t count,
                                   const Magnitude &magnitude) {
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
    const char *next = row + 8 <= args.rows ? d + row_bytes : a;
    int64_t col = 0;
    for (; col + kLanes <= count; col += kLanes) {
      for (int i = 0; i < 4; ++i) prefetch(next + i * row_bytes + col * kSizeOf<Tag>, kLanes * kSizeOf<Tag>);
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
template <typename Tag, typename Drop>
void quantize_rare_column(const QuantizeInt8Args &args, const Drop &drop, int64_t col, int64_t begin, int64_t end) {
  const RareRow encode{bnb::load<float>(args.col_stats, col)};
  for (int64_t row = begin; row < end; ++row) {
    const char *a = static_cast<const char *>(args.a) + (row * args.row_stride + col) * kSizeOf<Tag>;
    const Floats x = load_some<Tag>(a, 1);
    store_int8_some(args.out_col + row * args.cols + col, drop(encode(x), x), 1);
  }
}

// 127 / absmax of some columns, or 0 where that is not ordinary; whether any of those has elements other than zero.
BNB_INLINE bool scales_of(const char *col_stats, int64_t count, float *scales) {
  bool rare = false;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t some = count - i < kLanes ? count - i : kLanes;
    const Floats absmax = load_some<F32>(col_stats + i * 4, some), scale = div(splat(127.0f), absmax);
    const Mask ordinary = both(greater(scale, splat(0.0f)), greater(from_bits(splat_bits(kInfinityBits)), scale));
    store<F32>(scales + i, select(ordinary, scale, splat(0.0f)));
    rare = rare || mask_bits(either(ordinary, equal(absmax, splat(0.0f)))) != mask_bits(first_lanes(kLanes));
  }
  return rare;
}

template <typename Tag, typename Drop>
void quantize_strip(const QuantizeInt8Args &args, const Drop &drop, int64_t strip, int64_t count, int64_t begin,
                    int64_t end) {
  alignas(64) float scales[kStrip];
  const bool rare = scales_of(static_cast<const char *>(args.col_stats) + strip * 4, count, scales);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t start = row * args.cols + strip;
    write_output(args.out_col, args.rows * args.cols, start, start + count, [&](int64_t first, int64_t last, char *to) {
      const char *a =
          static_cast<const char *>(args.a) + (row * args.row_stride + strip + first - start) * kSizeOf<Tag>;
      const float *scale = scales + (first - start);
      const auto encode = [&](Floats x, Floats s) { return drop(round_int(mul(x, s)), x); };
      encode_row<Tag>(
          a, nullptr, last - first, [&](Floats x, int64_t i) { return encode(x, load<F32>(scale + i)); },
          [&](Floats x, int64_t i, int64_t some) { return encode(x, load_some<F32>(scale + i, some)); }, to);
    });
  }
  for (int64_t i = 0; rare && i < count; ++i) {
    const float absmax = bnb::load<float>(args.col_stats, strip + i);
    if (absmax != 0.0f && scales[i] == 0.0f) quantize_rare_column<Tag>(args, drop, strip + i, begin, end);
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
  const auto body = [&](int64_t row, int64_t col, int64_t count, char *to) {
    const char *a = static_cast<const char *>(args.a) + (row * args.cols + col) * 4;
    const Floats row_stats = splat(bnb::load<float>(args.row_stats, row));
    const auto value = [&](Ints sum, Floats col_stats) {
      return mul(mul(to_float(sum), mul(row_stats, col_stats)), unit);
    };
    const auto full = [&](int64_t i) {
      const Floats x = value(load_int32(a + i * 4), load<F32>(stats + (col + i) * 4));
      store<Tag>(to + i * kSizeOf<Tag>, add_bias(x, col + i));
    };
    const auto some = [&](int64_t i, int64_t left) {
      const Floats x = value(load_int32_some(a + i * 4, left), load_some<F32>(stats + (col + i) * 4, left));
      store_some<Tag>(to + i * kSizeOf<Tag>, add_bias.some(x, col + i, left), left);
    };
    for_vectors<4>(a + bytes_ahead<4>(row * args.cols + col + count, args.rows * args.cols), count, full, some);
  };
  write_rows<kSizeOf<Tag>>(args.out, args.rows, args.cols, begin, end, body);
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
    with_drop(args.threshold, [&](const auto &drop) { quantize_rows<decltype(tag)>(args, drop, begin, end); });
  });
}

void int8_quantize_cols(const QuantizeInt8Args &args, int64_t begin, int64_t end) {
  with_float(args.dtype, [&](auto tag) {
    with_drop(args.threshold, [&](const auto &drop) {
      for (int64_t strip = 0; strip < args.cols; strip += kStrip) {
        const int64_t count = args.cols - strip < kStrip ? args.cols - strip : kStrip;
        quantize_strip<decltype(tag)>(args, drop, strip, count, begin, end);
      }
    });
  });
}

void dequantize_int8(const DequantizeInt8Args &args, int64_t begin, int64_t end) {
  const Floats unit = splat(1.0f / 127.0f);
  const int64_t rows_ahead = 1 + kElementsTogether / (args.cols + 1);
  with_float(args.dtype, [&](auto tag) {
    using Tag = decltype(tag);
    constexpr int64_t kSize = kSizeOf<Tag>;
    const auto body = [&](int64_t row, int64_t col, int64_t count, char *to) {
      const int8_t *a = args.a + row * args.row_stride + col;
      const Floats stats = splat(bnb::load<float>(args.row_stats, row));
      const auto value = [&](Ints code) { return mul(mul(to_float(code), stats), unit); };
      const auto full = [&](int64_t i) { store<Tag>(to + i * kSize, value(load_int8(a + i))); };
      const auto some = [&](int64_t i, int64_t left) {
        store_some<Tag>(to + i * kSize, value(load_int8_some(a + i, left)), left);
      };
      const int64_t ahead = row + rows_ahead < args.rows ? rows_ahead * args.row_stride : 0;
      for_vectors<1>(a + ahead, count, full, some);
    };
    write_rows<kSize>(args.out, args.rows, args.cols, begin, end, body);
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
