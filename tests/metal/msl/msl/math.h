// SPDX-License-Identifier: MIT
// Functions of numbers.
#ifndef TESTS_METAL_MSL_MATH_H_
#define TESTS_METAL_MSL_MATH_H_

namespace metal {

inline float fabs(float x) { return __builtin_fabsf(x); }
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float exp(float x) { return __builtin_expf(x); }
inline float log(float x) { return __builtin_logf(x); }
inline float pow(float x, float y) { return __builtin_powf(x, y); }
inline float floor(float x) { return __builtin_floorf(x); }
inline float ceil(float x) { return __builtin_ceilf(x); }
inline float trunc(float x) { return __builtin_truncf(x); }
inline float rint(float x) { return __builtin_rintf(x); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float copysign(float x, float y) { return __builtin_copysignf(x, y); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbitf(x); }

namespace precise {
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline float divide(float x, float y) { return x / y; }
inline float exp(float x) { return __builtin_expf(x); }
}  // namespace precise

// Of two different types neither is meant.
#define MSL_INTEGER(T)                                          \
  inline T min(T a, T b) { return a < b ? a : b; }              \
  inline T max(T a, T b) { return a > b ? a : b; }              \
  inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
MSL_INTEGER(char)
MSL_INTEGER(uchar)
MSL_INTEGER(short)
MSL_INTEGER(ushort)
MSL_INTEGER(int)
MSL_INTEGER(uint)
#undef MSL_INTEGER
inline float min(float a, float b) { return isnan(a) ? b : isnan(b) ? a : a < b ? a : b; }
inline float max(float a, float b) { return isnan(a) ? b : isnan(b) ? a : a > b ? a : b; }
inline float clamp(float x, float low, float high) { return min(max(x, low), high); }
inline float fmin(float a, float b) { return min(a, b); }
inline float fmax(float a, float b) { return max(a, b); }
inline int abs(int x) { return x < 0 ? -x : x; }

inline uint clz(uint x) { return x ? uint(__builtin_clz(x)) : 32u; }
inline uint ctz(uint x) { return x ? uint(__builtin_ctz(x)) : 32u; }
inline uint popcount(uint x) { return uint(__builtin_popcount(x)); }
inline uint mulhi(uint a, uint b) { return uint((ulong(a) * b) >> 32); }

template <typename T>
inline T select(T if_not, T if_so, bool condition) { return condition ? if_so : if_not; }

}  // namespace metal

#endif  // TESTS_METAL_MSL_MATH_H_
