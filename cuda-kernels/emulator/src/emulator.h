// Runs the threads of one block after another as fibers of one CPU thread: what CUDA's language has beyond C++, as far as the kernels use it.
// Shared memory, barriers, atomics on 32 bits. No shuffles, no inline PTX, no true races.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static
#define __launch_bounds__(...)

struct kls_dim3 {
    unsigned x, y, z;
};
extern kls_dim3 threadIdx, blockIdx, blockDim, gridDim;

// Lets the other threads of the block come as far.
void __syncthreads();
// Whether any / all threads' conditions hold; a barrier too.
int __syncthreads_or(int condition);
int __syncthreads_and(int condition);

inline unsigned atomicOr(unsigned *at, unsigned x) {
    unsigned old = *at;
    *at |= x;
    return old;
}
inline unsigned atomicMax(unsigned *at, unsigned x) {
    unsigned old = *at;
    if (x > old) *at = x;
    return old;
}
inline unsigned atomicAdd(unsigned *at, unsigned x) {
    unsigned old = *at;
    *at += x;
    return old;
}

template <class To, class From> inline To kls_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "bits of one size");
    To to;
    memcpy(&to, &x, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return kls_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return kls_bits<float>(x); }
inline int __float_as_int(float x) { return kls_bits<int>(x); }
inline float __int_as_float(int x) { return kls_bits<float>(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
template <class T> inline T kls_min(T a, T b) { return b < a ? b : a; }
template <class T> inline T kls_max(T a, T b) { return a < b ? b : a; }
#define min kls_min
#define max kls_max

struct kls_kernel {
    const char *name;
    unsigned threads;
    size_t size;
    int barriers;
    void (*run)(const void *params);
    kls_kernel *next;
    kls_kernel(const char *name, unsigned threads, size_t size, int barriers, void (*run)(const void *));
};

#define KLS_DECLARE_KERNEL(name, P, threads, barriers)                                                                       \
    static void name##_body(const P &p);                                                                                     \
    static kls_kernel name##_kernel(#name, threads, sizeof(P), barriers,                                                     \
                                    [](const void *params) { name##_body(*static_cast<const P *>(params)); });               \
    static void name##_body(const P &p)
#define KLS_KERNEL(name, P, threads) KLS_DECLARE_KERNEL(name, P, threads, 1)
#define KLS_FLAT_KERNEL(name, P, threads) KLS_DECLARE_KERNEL(name, P, threads, 0)
