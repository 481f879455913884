// What a block does with numbers of its item one by one: eigenvalues, weights, roots.
#pragma once
#include "params.cuh"

// Threads of a kernel in which a block works on an item.
constexpr uint32_t KLS_BLOCK = 128;
// Numbers that a thread reads before it waits for the first of them: a block alone on a long mode otherwise makes one trip to memory after another.
constexpr uint32_t KLS_GROUP = 8;

// The numbers below `n` that are this thread's, in order, by the first one of each group.
#define KLS_OWN_GROUPS(first, n) for (uint32_t first = threadIdx.x; first < (n); first += KLS_GROUP * KLS_BLOCK)

// `f(j, i)` for the numbers i of a group, in order; j counts them.
template <class F> __device__ __forceinline__ void kls_each_of_group(uint32_t first, uint32_t n, F f) {
    KLS_UNROLL
    for (uint32_t j = 0; j < KLS_GROUP; j++) {
        const uint32_t i = first + j * KLS_BLOCK;
        if (i < n) f(j, i);
    }
}

// `then(i, read(i))` for every number i below `n` that is this thread's, in order. `then` may write what is read for the same i, and for no other.
template <class R, class F> __device__ __forceinline__ void kls_own(uint32_t n, R read, F then) {
    KLS_OWN_GROUPS(first, n) {
        decltype(read(0u)) x[KLS_GROUP] = {};
        kls_each_of_group(first, n, [&](uint32_t j, uint32_t i) { x[j] = read(i); });
        kls_each_of_group(first, n, [&](uint32_t j, uint32_t i) { then(i, x[j]); });
    }
}

// The same of an array.
template <class F> __device__ __forceinline__ void kls_own_of(const float *x, uint32_t n, F then) {
    kls_own(n, [&](uint32_t i) { return x[i]; }, then);
}
