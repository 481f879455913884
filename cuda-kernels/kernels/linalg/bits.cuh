// Numbers by their bits, as core/src/scalar.rs has them, and what the two compilers are told in different words.
#pragma once
#include "../kernel.h"

#ifdef KLS_EMULATE
#define KLS_UNROLL
#define KLS_NO_UNROLL
#else
#define KLS_UNROLL _Pragma("unroll")
#define KLS_NO_UNROLL _Pragma("unroll 1")
#endif

// Tells the compiler that what follows from a number cannot be known before this line: the places of an item's results, say, which are those of the
// next one's, would else be kept in registers that its products need.
#ifdef KLS_EMULATE
#define KLS_COMPUTED_HERE(x)
#else
#define KLS_COMPUTED_HERE(x) asm volatile("" : "+r"(x))
#endif

// x y + z, for sums whose bits are nobody's business: fused where the machine has an instruction for it, though the module as a whole is compiled
// without contraction.
__device__ __forceinline__ float kls_fma(float x, float y, float z) {
#ifdef KLS_EMULATE
    return x * y + z;
#else
    return __fmaf_rn(x, y, z);
#endif
}

__device__ __forceinline__ bool kls_is_finite(float x) { return (__float_as_uint(x) >> 23 & 255) != 255; }

__device__ __forceinline__ float kls_infinity() { return __uint_as_float(0x7f800000); }

// floor(log2 |x|) of normal numbers; zero and denormals give -127, NaN and infinity 128.
__device__ __forceinline__ int kls_exponent(float x) { return (int)(__float_as_uint(x) >> 23 & 255) - 127; }

// 2^e, with e brought into the range of normal numbers.
__device__ __forceinline__ float kls_exp2i(int e) {
    e = e < -126 ? -126 : e > 127 ? 127 : e;
    return __uint_as_float((unsigned)(e + 127) << 23);
}
