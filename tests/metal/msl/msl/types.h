// SPDX-License-Identifier: MIT
// Types and address spaces. g++ runs the kernels, and to it an address space is nothing, but that constant memory cannot be written.
// clang++ (MSL_CHECK) runs nothing and has real address spaces: what mixes them does not compile, as in Apple's compiler, which is clang.
#ifndef TESTS_METAL_MSL_TYPES_H_
#define TESTS_METAL_MSL_TYPES_H_

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef ulong size_t;
typedef long ptrdiff_t;
static_assert(sizeof(long) == 8, "as wide as Metal's");

#if defined(MSL_CHECK)
#define MSL_DEVICE __attribute__((address_space(1)))
#define MSL_CONSTANT __attribute__((address_space(2))) const
#define MSL_THREADGROUP __attribute__((address_space(3)))
#else
#define MSL_DEVICE
#define MSL_CONSTANT const
#define MSL_THREADGROUP
#endif
#define device MSL_DEVICE
#define constant MSL_CONSTANT
#define threadgroup MSL_THREADGROUP
#define thread

// The instances of kernel templates. clang++ gets them as Apple's compiler does, but for their names.
#if defined(MSL_CHECK)
#define kernel
#define MSL_INSTANCE(...) template decltype(__VA_ARGS__) __VA_ARGS__;
#else
#define kernel static
#define MSL_INSTANCE(...)
#endif

// Of vectors: elements by their index, arithmetic element by element, and loads and stores as one. Swizzles and constructors are
// spelled differently by g++ and clang++.
#define MSL_VECTORS(T)                                              \
  typedef T T##2 __attribute__((vector_size(2 * sizeof(T))));       \
  typedef T T##4 __attribute__((vector_size(4 * sizeof(T))));
MSL_VECTORS(char)
MSL_VECTORS(uchar)
MSL_VECTORS(short)
MSL_VECTORS(ushort)
MSL_VECTORS(int)
MSL_VECTORS(uint)
MSL_VECTORS(float)
#undef MSL_VECTORS

namespace metal_host {
ushort half_from(float x);
float float_from_half(ushort bits);
ushort bfloat_from(float x);
float float_from_bfloat(ushort bits);
}  // namespace metal_host

// Floats of 16 bits. To g++ they are classes, and nothing converts by itself: Metal converts more than that, but which conversions it
// prefers is not for us to know. To clang++ they are types of its own, since classes cannot be copied from one address space to another.
#if defined(MSL_CHECK)
typedef _Float16 half;
#if __METAL_VERSION__ >= 310
typedef __fp16 bfloat;
#endif
#else
#define MSL_FLOAT16(T)                                                                      \
  struct T {                                                                                \
    ushort bits;                                                                            \
    T() = default;                                                                          \
    explicit T(float x) : bits(metal_host::T##_from(x)) {}                                  \
    explicit operator float() const { return metal_host::float_from_##T(bits); }            \
    friend T operator+(T a, T b) { return T(float(a) + float(b)); }                         \
    friend T operator-(T a, T b) { return T(float(a) - float(b)); }                         \
    friend T operator*(T a, T b) { return T(float(a) * float(b)); }                         \
    friend T operator/(T a, T b) { return T(float(a) / float(b)); }                         \
    friend bool operator<(T a, T b) { return float(a) < float(b); }                         \
    friend bool operator>(T a, T b) { return float(a) > float(b); }                         \
    friend bool operator==(T a, T b) { return float(a) == float(b); }                       \
  };
MSL_FLOAT16(half)
#if __METAL_VERSION__ >= 310
MSL_FLOAT16(bfloat)
#endif
#undef MSL_FLOAT16
#endif

namespace metal {

template <typename To, typename From>
inline To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bytes");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <typename A, typename B>
struct is_same { enum : bool { value = false }; };
template <typename A>
struct is_same<A, A> { enum : bool { value = true }; };

}  // namespace metal

#endif  // TESTS_METAL_MSL_TYPES_H_
