// Batches: a kernel works on several items of equal shapes, of which some take part.
#pragma once
#include "kernel.h"

// One thing of each item: `stride` elements lie between those of neighbours.
template <class T> struct kls_array {
    T *base;
    uint64_t stride;

    __device__ __forceinline__ T *of(uint32_t item) const { return base + item * stride; }
};

// The items of a batch; those take part whose flags have the wanted bits under the mask. Without flags all do.
struct kls_items {
    uint32_t *flags;
    uint32_t count, mask, wanted, unused;
};

__device__ __forceinline__ bool kls_takes_part(const kls_items &items, uint32_t item) {
    return item < items.count && (!items.flags || (items.flags[item] & items.mask) == items.wanted);
}
