// One number of what the threads of a block have, in a fixed order.
#pragma once
#include "own.cuh"

struct kls_sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct kls_largest {
    template <class T> __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};
struct kls_least {
    template <class T> __device__ T operator()(T a, T b) const { return b < a ? b : a; }
};

// All threads get the result; all have to call it.
template <class T, class F> __device__ T kls_reduce(T x, F f) {
    constexpr uint32_t GROUP = 16;
    __shared__ T all[KLS_BLOCK];
    __syncthreads();
    all[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x % GROUP == 0) {
        T own = x;
        for (uint32_t i = 1; i < GROUP; i++) own = f(own, all[threadIdx.x + i]);
        all[threadIdx.x] = own;
    }
    __syncthreads();
    T result = all[0];
    for (uint32_t i = GROUP; i < KLS_BLOCK; i += GROUP) result = f(result, all[i]);
    return result;
}
