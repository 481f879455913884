// How an item's elements are shared out: chunks of fixed length, one after another for a block, whatever the grid. In a chunk each thread
// takes four elements together, 1024 further on four more, and so on: what it sums has the same order in every kernel.
#pragma once
#include "../kernel.h"

constexpr uint32_t KLS_CHUNK_THREADS = 256;
constexpr uint32_t KLS_CHUNK = 16 * KLS_CHUNK_THREADS;

__device__ __forceinline__ uint64_t kls_chunks(uint64_t len) { return (len + (KLS_CHUNK - 1)) / KLS_CHUNK; }

// The same pointer, of which the compiler now knows that it is to global memory: of one that was read from memory it does not see that.
template <class T> __device__ __forceinline__ T *kls_global(T *p) {
#ifdef KLS_EMULATE
    return p;
#else
    size_t address;
    asm("cvta.to.global.u64 %0, %1;" : "=l"(address) : "l"(p));
    return static_cast<T *>(__cvta_global_to_generic(address));
#endif
}

// Four elements that lie together: one access.
template <class T> struct alignas(4 * sizeof(T)) kls_quad {
    T at[4];
};

// Writes them. An assignment, of whatever type, the compiler takes apart where the same elements may also be stored one by one, so that both ways share
// their stores. The store is an ordinary one.
#ifdef KLS_EMULATE
template <class T> inline void kls_store_quad(T *to, const T x[4]) {
    *reinterpret_cast<kls_quad<T> *>(to) = {x[0], x[1], x[2], x[3]};
}
#else
__device__ __forceinline__ void kls_store_quad(float *to, const float x[4]) {
    __stwb(reinterpret_cast<float4 *>(to), {x[0], x[1], x[2], x[3]});
}
__device__ __forceinline__ void kls_store_quad(uint32_t *to, const uint32_t x[4]) {
    __stwb(reinterpret_cast<uint4 *>(to), {x[0], x[1], x[2], x[3]});
}
__device__ __forceinline__ void kls_store_quad(uint16_t *to, const uint16_t x[4]) {
    __stwb(reinterpret_cast<ushort4 *>(to), {x[0], x[1], x[2], x[3]});
}
#endif

template <class T> __device__ __forceinline__ bool kls_holds_quads(const T *base) {
    return (reinterpret_cast<uintptr_t>(base) & (4 * sizeof(T) - 1)) == 0;
}

// Up to four elements from `base[i]` on, of an array whose elements lie together; `quads` is what `kls_holds_quads` says of it.
template <class T> __device__ __forceinline__ void kls_load4(const T *base, bool quads, uint64_t i, uint32_t count, T out[4]) {
    if (quads && count == 4) {
        const kls_quad<T> quad = *reinterpret_cast<const kls_quad<T> *>(base + i);
        for (uint32_t j = 0; j < 4; j++) out[j] = quad.at[j];
    } else {
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) out[j] = base[i + j];
    }
}

template <class T> __device__ __forceinline__ void kls_store4(T *base, bool quads, uint64_t i, uint32_t count, const T x[4]) {
    if (quads && count == 4) {
        kls_store_quad(base + i, x);
    } else {
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) base[i + j] = x[j];
    }
}

// How many of the four elements from `i` on there are.
__device__ __forceinline__ uint32_t kls_count4(uint64_t i, uint64_t len) { return i + 4 <= len ? 4 : static_cast<uint32_t>(len - i); }
