// Sums and maxima over a block's threads, always in the same order.
#pragma once
#include "../kernel.h"

// The sum of what the threads of a block bring, in `room` of THREADS + 32 numbers of shared memory. THREADS is a multiple of 32, at most 1024.
template <unsigned THREADS> __device__ __forceinline__ float kls_block_sum(float x, float *room) {
    const unsigned t = threadIdx.x;
    __syncthreads();
    room[t] = x;
    __syncthreads();
    if (t < THREADS / 32) {
        float sum = 0;
        for (unsigned i = 0; i < 32; i++) sum += room[t * 32 + i];
        room[THREADS + t] = sum;
    }
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < THREADS / 32; i++) sum += room[THREADS + i];
    return sum;
}

// The largest of what they bring, none of it NaN.
template <unsigned THREADS> __device__ __forceinline__ float kls_block_max(float x, float *room) {
    const unsigned t = threadIdx.x;
    __syncthreads();
    room[t] = x;
    __syncthreads();
    if (t < THREADS / 32) {
        float largest = room[t * 32];
        for (unsigned i = 1; i < 32; i++) largest = fmaxf(largest, room[t * 32 + i]);
        room[THREADS + t] = largest;
    }
    __syncthreads();
    float largest = room[THREADS];
    for (unsigned i = 1; i < THREADS / 32; i++) largest = fmaxf(largest, room[THREADS + i]);
    return largest;
}
