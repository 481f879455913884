// The size of an array: its largest element and the sum of its squares, in an order that does not depend on the grid.
#pragma once
#include "../batch.h"
#include "chunks.cuh"

struct kls_measure {
    // Of squares.
    double sum;
    // The bits of the largest |x|; those of infinity are above all that are finite, those of NaN above these.
    uint32_t largest, unused;
};

__device__ __forceinline__ kls_measure kls_nothing_measured() { return {0, 0, 0}; }

__device__ __forceinline__ void kls_measure_one(kls_measure &m, float x) {
    const uint32_t magnitude = __float_as_uint(x) & 0x7fffffff;
    if (magnitude > m.largest) m.largest = magnitude;
    m.sum += static_cast<double>(x) * static_cast<double>(x);
}

__device__ __forceinline__ void kls_measure_and(kls_measure &m, const kls_measure &other) {
    if (other.largest > m.largest) m.largest = other.largest;
    m.sum += other.sum;
}

// What all threads of a block have measured, for the first one. Every thread of the block must call it.
__device__ __forceinline__ kls_measure kls_measure_block(const kls_measure &own) {
    constexpr uint32_t EACH = 16, FIRST = KLS_CHUNK_THREADS / EACH;
    __shared__ double sums[KLS_CHUNK_THREADS];
    __shared__ uint32_t largest[KLS_CHUNK_THREADS];
    kls_measure m = own;
    sums[threadIdx.x] = m.sum, largest[threadIdx.x] = m.largest;
    __syncthreads();
    // Two rounds of sixteen: as many barriers less as a tree has rounds more.
    if (threadIdx.x < FIRST) {
        for (uint32_t i = threadIdx.x + FIRST; i < KLS_CHUNK_THREADS; i += FIRST) kls_measure_and(m, {sums[i], largest[i], 0});
    }
    __syncthreads();
    if (threadIdx.x < FIRST) sums[threadIdx.x] = m.sum, largest[threadIdx.x] = m.largest;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t i = 1; i < FIRST; i++) kls_measure_and(m, {sums[i], largest[i], 0});
    }
    // What is shared may be written again.
    __syncthreads();
    return m;
}
