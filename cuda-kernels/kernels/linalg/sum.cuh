// Sums and maxima over a block's threads, always in the same order.
#pragma once
#include "../kernel.h"

// What `f` makes of `none` and all that the threads of a block bring, in `room` of THREADS + 32 numbers of shared memory. THREADS is a multiple of 32, at
// most 1024.
template <unsigned THREADS, class F> __device__ __forceinline__ float kls_block_fold(float x, float *room, float none, F f) {
    const unsigned t = threadIdx.x;
    __syncthreads();
    room[t] = x;
    __syncthreads();
    if (t < THREADS / 32) {
        float own = none;
        for (unsigned i = 0; i < 32; i++) own = f(own, room[t * 32 + i]);
        room[THREADS + t] = own;
    }
    __syncthreads();
    float all = none;
    for (unsigned i = 0; i < THREADS / 32; i++) all = f(all, room[THREADS + i]);
    return all;
}

// The sum of what they bring.
template <unsigned THREADS> __device__ __forceinline__ float kls_block_sum(float x, float *room) {
    return kls_block_fold<THREADS>(x, room, 0.0f, [](float a, float b) { return a + b; });
}

// The largest of what they bring, none of it NaN.
template <unsigned THREADS> __device__ __forceinline__ float kls_block_max(float x, float *room) {
    return kls_block_fold<THREADS>(x, room, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
}
