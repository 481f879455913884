// The random numbers of stochastic rounding, the core's own (core/src/format.rs): a hash of seed, tensor, slice, step and element.
#pragma once
#include "../kernel.h"

// The finalizer of SplitMix64.
__device__ __forceinline__ uint64_t kls_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

__device__ __forceinline__ uint64_t kls_rounding_key(uint64_t seed, uint32_t tensor, uint32_t slice, uint64_t step) {
    return kls_mix(kls_mix(kls_mix(kls_mix(seed) ^ tensor) ^ slice) ^ step);
}

// The number of element `index` of the slice (piece). The constants are those of a published search for small bias ("lowbias32").
__device__ __forceinline__ uint16_t kls_rounding_number(uint64_t key, uint64_t index) {
    uint32_t x = static_cast<uint32_t>(index) ^ static_cast<uint32_t>(index >> 32) ^ static_cast<uint32_t>(key);
    x = (x ^ (x >> 16)) * 0x7feb352du + static_cast<uint32_t>(key >> 32);
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return static_cast<uint16_t>(x ^ (x >> 16));
}
